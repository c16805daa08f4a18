// Two maps of one section that pan and zoom together, drawn by Bokeh.
"use strict";

(function (HEscribe) {
  const SEQUENTIAL = "Viridis256", NOVELTY = "Cividis256", MISSING = "rgba(120,120,120,0.35)";
  // PuOr, as in the maps that predict writes: purple below, orange above; safe for colour-blind readers.
  const DIVERGING = ["#2d004b", "#542788", "#8073ac", "#b2abd2", "#d8daeb", "#f7f7f7", "#fee0b6", "#fdb863", "#e08214", "#b35806", "#7f3b08"];
  // Okabe and Ito 2008, then lighter and darker kin.
  const GROUPS = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#000000", "#999999", "#004d78", "#a36f00", "#00664a"];
  const DENSE = 20000; // spots above which a map is one picture
  const PALE = 0.25; // of spots unlike the training images, and of genes that are not to be used

  function between(low, high, share) {
    return low.map((v, k) => Math.round(v + (high[k] - v) * share));
  }

  function stretch(colours, n) {
    const rgb = colours.map((c) => [1, 3, 5].map((k) => parseInt(c.slice(k, k + 2), 16)));
    return Array.from({ length: n }, (_, i) => {
      const at = (i / (n - 1)) * (rgb.length - 1), k = Math.min(Math.floor(at), rgb.length - 2);
      return "#" + between(rgb[k], rgb[k + 1], at - k).map((v) => v.toString(16).padStart(2, "0")).join("");
    });
  }

  HEscribe.groupColour = (k) => GROUPS[k % GROUPS.length];

  function palette(kind, n) {
    if (kind === "error") return stretch(DIVERGING, 256);
    if (kind === "groups") return Array.from({ length: n }, (_, k) => HEscribe.groupColour(k));
    const known = Bokeh.Palettes && Bokeh.Palettes[kind === "novelty" ? NOVELTY : SEQUENTIAL];
    return known || stretch(kind === "novelty" ? ["#00204d", "#7c7b78", "#ffea46"] : ["#440154", "#3b528b", "#21918c", "#5ec962", "#fde725"], 256);
  }

  class Maps {
    constructor(holders) {
      this.holders = holders;
      this.x_range = new Bokeh.Range1d({ start: 0, end: 1 });
      this.y_range = new Bokeh.Range1d({ start: -1, end: 0 });
      this.sides = {};
      this.x_range.change.connect(() => this.onmove && this.onmove());
    }

    // Show another section: its image below, its spots above.
    async show(section, spots, names, image) {
      this.section = section;
      const n = section.n_spots;
      this.spots = { x: spots.subarray(0, n), y: spots.subarray(n, 2 * n), name: names };
      this.novelty = spots.subarray(2 * n);
      this.chosen = [];
      this.raster = n > DENSE ? new HEscribe.Raster(section, this.spots.x, this.spots.y) : null;
      HEscribe.drawOnProcessor(Boolean(this.raster)); // circles are drawn by WebGL, pictures are not
      const none = new Float32Array(n).fill(NaN), full = new Float32Array(n).fill(1);
      const columns = { x: this.spots.x, y: this.spots.y.map((v) => -v), name: names, left: none, right: none, left_alpha: full, right_alpha: full };
      this.data = new Bokeh.ColumnDataSource({ data: this.raster ? {} : columns });
      this.data.selected.change.connect(() => this.choose(Array.from(this.data.selected.indices)));
      this.whole(); // before there is a frame: roughly, so that no tile is asked for in vain
      for (const side of ["left", "right"]) this.build(side, image);
      const document_ = new Bokeh.Document(), [left, right] = [this.sides.left.plot, this.sides.right.plot];
      document_.add_root(left);
      document_.add_root(right);
      Object.values(this.holders).forEach((holder) => holder.replaceChildren());
      const views = await Bokeh.embed.add_document_standalone(document_, this.holders.left, [this.holders.left, this.holders.right]);
      this.sides.left.view = views.get(left);
      this.sides.right.view = views.get(right);
      this.whole();
    }

    choose(indices) {
      this.chosen = indices;
      if (this.raster) for (const side of ["left", "right"]) this.draw(side);
      if (this.onselect) this.onselect(indices);
    }

    build(side, image) {
      const section = this.section;
      const plot = Bokeh.Plotting.figure({
        x_range: this.x_range, y_range: this.y_range, output_backend: this.raster ? "canvas" : "webgl", sizing_mode: "stretch_both", min_border: 4,
        tools: "pan,wheel_zoom,lasso_select,tap,reset", active_scroll: "wheel_zoom", toolbar_location: "right", outline_line_color: "#bbbbbb",
        background_fill_color: "#ffffff", lod_threshold: null,
      });
      plot.toolbar.logo = null;
      plot.xaxis.visible = plot.yaxis.visible = false;
      plot.xgrid.visible = plot.ygrid.visible = false;
      if (section.tiles && image.tiles) {
        const t = section.tiles;
        const source = new Bokeh.WMTSTileSource({
          url: image.tiles, tile_size: 256, min_zoom: 0, max_zoom: t.n_levels - 1, initial_resolution: t.side_um / 256,
          x_origin_offset: 0, y_origin_offset: t.side_um, wrap_around: false,
        });
        const span = (z) => t.side_um / 2 ** z, [w, h] = section.size_um, closest = source.get_level_by_extent.bind(source), children = source.children_by_tile_xyz.bind(source);
        // Nothing beyond the image is asked for; and of two levels, the finer one is shown.
        source.is_valid_tile = (x, y, z) => z >= 0 && z < t.n_levels && x >= 0 && x * span(z) < w && y < 2 ** z && (2 ** z - 1 - y) * span(z) < h;
        source.children_by_tile_xyz = (...given) => children(...given).filter(([x, y, z]) => source.is_valid_tile(x, y, z));
        source.get_level_by_extent = (...given) => Math.min(closest(...given) + 1, t.n_levels - 1);
        plot.add_renderers(new Bokeh.TileRenderer({ tile_source: source, level: "image", smoothing: true }));
      } else if (image.picture) {
        const [w, h] = section.size_um;
        plot.image_url({ url: ["data:image/jpeg;base64," + image.picture], x: [0], y: [0], w: [w], h: [h], anchor: "top_left" });
      }
      const mapper = new Bokeh.LinearColorMapper({ palette: palette("values"), low: 0, high: 1, nan_color: MISSING });
      const layer = this.raster ? this.addPicture(plot) : this.addSpots(plot, side, mapper);
      const bar = new Bokeh.ColorBar({ color_mapper: mapper, width: 12, padding: 4, label_standoff: 6, major_label_text_font_size: "12px" });
      plot.add_layout(bar, "right");
      const hatch = new Bokeh.BoxAnnotation({ fill_alpha: 0, line_alpha: 0, hatch_pattern: "right_diagonal_line", hatch_color: "#444444", hatch_alpha: 0.35, hatch_scale: 16, visible: false, level: "annotation" });
      plot.add_layout(hatch);
      plot.add_layout(new Bokeh.ScaleBar({ range: this.x_range, unit: "\u00b5m", location: "bottom_left", background_fill_alpha: 0.8 }));
      this.sides[side] = { plot, mapper, bar, hatch, layer };
    }

    addSpots(plot, side, mapper) {
      const glyph = plot.circle({
        x: { field: "x" }, y: { field: "y" }, radius: this.section.pitch_um * 0.45, source: this.data, line_color: null,
        fill_color: { field: side, transform: mapper }, fill_alpha: { field: side + "_alpha" },
        nonselection_fill_alpha: 0.15,
      });
      const tooltips = [["spot", "@name"], ["left", "@left{0.000}"], ["right", "@right{0.000}"]];
      plot.add_tools(new Bokeh.HoverTool({ renderers: [glyph], tooltips }));
      return glyph;
    }

    addPicture(plot) {
      const { width, height, step } = this.raster, place = { x: [0], y: [0], dw: [width * step], dh: [height * step] };
      const source = new Bokeh.ColumnDataSource({ data: { image: [this.pixels(width, height)], ...place } });
      plot.image_rgba({ image: { field: "image" }, x: { field: "x" }, y: { field: "y" }, dw: { field: "dw" }, dh: { field: "dh" }, source, origin: "top_left", anchor: "top_left" });
      plot.on_event("mousemove", ({ x, y }) => this.onhover && this.onhover(this.raster.at(x, -y)));
      plot.on_event("selectiongeometry", ({ geometry, final }) => {
        if (final && geometry.type === "poly") this.choose(this.raster.inside(Array.from(geometry.x), Array.from(geometry.y, (v) => -v)));
      });
      plot.on_event("tap", () => this.chosen.length && this.choose([]));
      return source;
    }

    pixels(width, height) {
      return Bokeh.require("core/util/ndarray").ndarray(new Uint32Array(width * height), { dtype: "uint32", shape: [height, width] });
    }

    // The picture changes in place: Bokeh would compare a new one with the old pixel by pixel.
    draw(side) {
      const { layer, colours } = this.sides[side];
      if (!colours) return;
      this.raster.fill(layer.data.image[0], colours, new Set(this.chosen));
      layer.change.emit();
    }

    // Colour one side. kind: values, error, novelty or groups; pale: whether the gene is not to be trusted.
    paint(side, values, { kind, low, high, n_groups, pale, opacity }) {
      const { mapper, bar, hatch } = this.sides[side];
      mapper.palette = palette(kind, n_groups);
      mapper.low = kind === "groups" ? -0.5 : low;
      mapper.high = kind === "groups" ? n_groups - 0.5 : high;
      bar.visible = kind !== "groups";
      hatch.visible = Boolean(pale);
      const unlike = this.section.unlike, novelty = this.novelty, own = pale ? PALE : 1;
      const alpha = novelty.map((v) => opacity * own * (v > unlike ? PALE : 1));
      if (this.raster) {
        this.sides[side].colours = HEscribe.colourSpots(values, mapper.palette, mapper.low, mapper.high, alpha, 0x787878);
        this.draw(side);
      } else {
        this.data.data = { ...this.data.data, [side]: values, [side + "_alpha"]: alpha };
      }
    }

    // Zoom out so that the section fits, keeping um square.
    whole() {
      const [w, h] = this.section.size_um;
      this.look(w / 2, h / 2, null);
    }

    look(x, y, width) {
      const [w, h] = this.section.size_um, frame = this.frame();
      const span = width || Math.max(w, (h * frame.width) / frame.height) * 1.04;
      const height = (span * frame.height) / frame.width;
      this.x_range.setv({ start: x - span / 2, end: x + span / 2 });
      this.y_range.setv({ start: -y - height / 2, end: -y + height / 2 });
    }

    place() {
      const { start, end } = this.x_range, middle = -(this.y_range.start + this.y_range.end) / 2;
      return { x: (start + end) / 2, y: middle, width: end - start };
    }

    frame() {
      const plot = this.sides.left && this.sides.left.plot, holder = this.holders.left;
      const width = (plot && plot.inner_width) || holder.clientWidth - 90, height = (plot && plot.inner_height) || holder.clientHeight - 20;
      return { width: Math.max(width, 50), height: Math.max(height, 50) };
    }

    canvases(side) {
      return this.sides[side].view.export("png", true);
    }
  }

  HEscribe.Maps = Maps;
})(window.HEscribe);
