// Many spots as one picture of the section: drawn once for a gene, after which panning moves a picture.
"use strict";

(function (HEscribe) {
  const LONGEST_PX = 2000, UNCHOSEN = 0.15; // of the picture; opacity of spots outside the lasso

  class Raster {
    constructor(section, x, y) {
      const [w, h] = section.size_um, half_um = section.pitch_um * 0.45;
      this.step = Math.max(w, h) / LONGEST_PX;
      this.width = Math.ceil(w / this.step);
      this.height = Math.ceil(h / this.step);
      this.x = x;
      this.y = y;
      this.spot = new Int32Array(this.width * this.height).fill(-1); // which spot each pixel shows
      const half = Math.max(half_um / this.step, 0.5);
      for (let i = 0; i < x.length; i++) this.stamp(i, x[i] / this.step, y[i] / this.step, half);
      this.covered = Uint32Array.from(this.spot.keys()).filter((p) => this.spot[p] >= 0);
    }

    stamp(i, cx, cy, half) {
      const first = Math.max(Math.round(cy - half), 0), last = Math.min(Math.round(cy + half), this.height);
      for (let row = first; row < last; row++) {
        const reach = Math.sqrt(Math.max(half * half - (row + 0.5 - cy) ** 2, 0.25));
        const from = Math.max(Math.round(cx - reach), 0), to = Math.min(Math.round(cx + reach), this.width);
        this.spot.fill(i, row * this.width + from, row * this.width + to);
      }
    }

    // Spread one colour a spot, as 0xAABBGGRR, over the pixels of a picture.
    fill(picture, colours, chosen) {
      const own = chosen.size ? colours.map((c, i) => (chosen.has(i) ? c : fade(c, UNCHOSEN))) : colours;
      const { covered, spot } = this;
      for (let k = 0; k < covered.length; k++) picture[covered[k]] = own[spot[covered[k]]];
    }

    // The spot at a place in um, or -1.
    at(x, y) {
      const column = Math.floor(x / this.step), row = Math.floor(y / this.step);
      return column < 0 || row < 0 || column >= this.width || row >= this.height ? -1 : this.spot[row * this.width + column];
    }

    inside(xs, ys) {
      const found = [];
      for (let i = 0; i < this.x.length; i++) if (isInside(this.x[i], this.y[i], xs, ys)) found.push(i);
      return found;
    }
  }

  function isInside(x, y, xs, ys) {
    let inside = false;
    for (let a = 0, b = xs.length - 1; a < xs.length; b = a++) {
      if (ys[a] > y !== ys[b] > y && x < ((xs[b] - xs[a]) * (y - ys[a])) / (ys[b] - ys[a]) + xs[a]) inside = !inside;
    }
    return inside;
  }

  function fade(colour, share) {
    return ((Math.round((colour >>> 24) * share) << 24) | (colour & 0xffffff)) >>> 0;
  }

  // A colour of a palette, "#rrggbb" or 0xrrggbbaa, as 0x00bbggrr.
  function toPixel(colour) {
    const rgb = typeof colour === "number" ? colour >>> 8 : parseInt(colour.slice(1, 7), 16);
    return ((rgb & 0xff) << 16) | (rgb & 0xff00) | (rgb >>> 16);
  }

  // Where a browser only emulates a GPU, each picture is uploaded anew for each frame, which takes ten times as long as
  // drawing it on the processor. Returns whether canvases made from now on are drawn there.
  HEscribe.drawOnProcessor = function (wanted) {
    onProcessor = wanted && emulatesGpu();
    return onProcessor;
  };

  let onProcessor = false;
  const getContext = HTMLCanvasElement.prototype.getContext;
  HTMLCanvasElement.prototype.getContext = function (kind, options) {
    const here = kind === "2d" && onProcessor ? { ...options, willReadFrequently: true } : options;
    return getContext.call(this, kind, here);
  };

  function emulatesGpu() {
    const gl = getContext.call(document.createElement("canvas"), "webgl"), facts = gl && gl.getExtension("WEBGL_debug_renderer_info");
    return Boolean(facts) && /swiftshader|llvmpipe|software/i.test(gl.getParameter(facts.UNMASKED_RENDERER_WEBGL));
  }

  HEscribe.colourSpots = function (values, palette, low, high, alpha, missing) {
    const pixels = palette.map(toPixel), top = pixels.length - 1, scale = pixels.length / (high - low);
    const colours = new Uint32Array(values.length);
    for (let i = 0; i < colours.length; i++) {
      const v = values[i], known = v === v;
      const colour = known ? pixels[Math.min(Math.max(Math.floor((v - low) * scale), 0), top)] : missing;
      colours[i] = ((Math.round(255 * alpha[i] * (known ? 1 : 0.35)) << 24) | colour) >>> 0;
    }
    return colours;
  };
  HEscribe.Raster = Raster;
})(window.HEscribe);
