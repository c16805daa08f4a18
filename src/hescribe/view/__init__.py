"""The browser viewer: a slide with deep zoom, and measured beside predicted expression on it."""
