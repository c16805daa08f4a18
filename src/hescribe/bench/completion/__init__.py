"""Judge completers on counts that were measured and hidden: protocols, tasks, cells."""
