/* What the explorables have in common: a panel in the place of a still picture, its controls, a
   picture that is drawn anew, and a sentence that says what it shows.

   Without this script, and on paper, the still picture is what the page shows. */
(function () {
  "use strict";
  const explorables = globalThis.explorables;
  let nIds = 0;

  explorables.newId = () => `explorable-${++nIds}`;

  /* Make an element. Keys of `attributes` that begin with "on" are listeners. */
  explorables.element = function (tag, attributes, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) {
      if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
      else made.setAttribute(name, value);
    }
    made.append(...children);
    return made;
  };

  const element = explorables.element;

  /* Parts of a picture, as text. */
  explorables.svg = {
    box: (x, y, width, height, kind, more = "") =>
      `<rect x="${x.toFixed(2)}" y="${y}" width="${Math.max(0, width).toFixed(2)}" ` +
      `height="${height}" class="${kind}" ${more}/>`,
    words: (x, y, text, kind = "", anchor = "middle") =>
      `<text x="${x.toFixed(2)}" y="${y}" text-anchor="${anchor}" class="${kind}">${text}</text>`,
    line: (x1, y1, x2, y2, kind) =>
      `<path d="M${x1.toFixed(2)} ${y1} L${x2.toFixed(2)} ${y2}" class="${kind}"/>`,
    /* What colours mean: triples of a kind, its words, and their width. Gives where it ends, too. */
    legend: (entries, y, width) => {
      const { box, words } = explorables.svg;
      const parts = [];
      let x = 0;
      for (const [kind, text, wide] of entries) {
        if (x + wide > width) [x, y] = [0, y + 20];
        parts.push(box(x + 1, y - 6, 14, 12, kind), words(x + 21, y, text, "small", "start"));
        x += wide;
      }
      return { parts, bottom: y + 12 };
    },
  };

  class Panel {
    constructor(figure) {
      this.root = element("div", { class: "explorable-panel" });
      this.controls = element("div", { class: "explorable-controls" });
      this.root.append(this.controls);
      this.draw = () => {};
      figure.prepend(this.root);
    }

    /* A slider. `text` makes words of its value; what it returns has `value` and `most`. */
    range(label, { min, max, step = 1, value, text = String }) {
      const id = explorables.newId();
      const output = element("output", { for: id });
      const input = element("input", { type: "range", id, min, max, step, value });
      const show = () => {
        output.textContent = text(Number(input.value));
        input.setAttribute("aria-valuetext", output.textContent);
      };
      input.addEventListener("input", () => {
        show();
        this.draw();
      });
      show();
      this.controls.append(
        element("div", { class: "explorable-range" }, element("label", { for: id }, label), input, output),
      );
      return {
        input,
        show,
        get value() {
          return Number(input.value);
        },
        set value(now) {
          input.value = now;
          show();
        },
        set most(now) {
          input.max = now;
          show();
        },
      };
    }

    /* Radio buttons; `options` are pairs of a value and its words. */
    choice(label, options, value, changed = () => {}) {
      const name = explorables.newId();
      const set = element("fieldset", { class: "explorable-choice" }, element("legend", {}, label));
      const put = (pairs, chosen) => {
        for (const old of set.querySelectorAll("label")) old.remove();
        for (const [key, words] of pairs) {
          const input = element("input", { type: "radio", name, value: key });
          input.checked = key === chosen;
          input.addEventListener("change", () => {
            changed();
            this.draw();
          });
          set.append(element("label", {}, input, words));
        }
      };
      put(options, value);
      this.controls.append(set);
      return {
        put,
        get value() {
          return set.querySelector("input:checked").value;
        },
      };
    }

    /* Where a picture is drawn: draw(height, parts), as wide as the panel. */
    picture() {
      const place = element("div", { class: "explorable-picture" });
      this.root.append(place);
      let width = 0;
      new ResizeObserver(() => {
        if (Math.abs(place.clientWidth - width) >= 1) this.draw();
      }).observe(place);
      return {
        get width() {
          width = place.clientWidth || 480;
          return width;
        },
        draw: (height, parts) => {
          place.innerHTML =
            `<svg viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" ` +
            `aria-labelledby="${this.summaryId}">${parts.join("")}</svg>`;
        },
      };
    }

    /* A sentence that says what the picture shows, told when it changes. */
    summary() {
      const said = element("p", {
        class: "explorable-summary",
        id: (this.summaryId = explorables.newId()),
        "aria-live": "polite",
      });
      this.root.append(said);
      return said;
    }
  }

  /* Put a panel into every figure of this kind. `build` makes it and returns what draws it. */
  explorables.show = function (name, build) {
    for (const figure of document.querySelectorAll(`figure.explorable-${name}`)) {
      const panel = new Panel(figure);
      try {
        panel.draw = build(panel);
        figure.classList.add("is-live");
        panel.draw();
      } catch (error) {
        figure.classList.remove("is-live");
        panel.root.remove(); // the still picture is there
        throw error;
      }
    }
  };
})();
