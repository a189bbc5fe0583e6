/* How many copies of the data the workers hold, in four ways to give them the data. */
(function () {
  "use strict";
  const explorables = globalThis.explorables;
  const { box, words, line } = explorables.svg;

  // Round values, from 10 MB to 10 GB.
  const SIZES_MB = [10, 20, 50, 80, 100, 200, 500, 1000, 2000, 4000, 10000];
  const MEMORY_GB = [4, 8, 16, 32, 64, 128, 256];

  const STRATEGIES = explorables.tables.strategies;

  const rounded = (n, digits) => Number(n.toFixed(digits)).toLocaleString("en-GB");
  const size = (mb) =>
    mb < 1000 ? `${Math.round(mb)} MB` : `${rounded(mb / 1000, mb < 10000 ? 2 : 1)} GB`;
  const times = (copies) => rounded(copies, 2);
  const copiesOf = (copies) => `${times(copies)} ${copies === 1 ? "copy" : "copies"}`;

  explorables.show("copies", (panel) => {
    const workers = panel.range("workers on each host", { min: 1, max: 64, value: 32 });
    const hosts = panel.range("hosts", { min: 1, max: 8, value: 1 });
    const folds = panel.range("folds", { min: 2, max: 10, value: 5 });
    const data = panel.range("the data", {
      min: 0,
      max: SIZES_MB.length - 1,
      value: 7,
      text: (place) => size(SIZES_MB[place]),
    });
    const memory = panel.range("memory of a host", {
      min: 0,
      max: MEMORY_GB.length - 1,
      value: 2,
      text: (place) => `${MEMORY_GB[place]} GB`,
    });
    const picture = panel.picture();
    const summary = panel.summary();

    return () => {
      const held = explorables.copies(workers.value, hosts.value, folds.value);
      const dataMb = SIZES_MB[data.value];
      const memoryMb = 1000 * MEMORY_GB[memory.value];
      const width = picture.width;
      const height = width < 420 ? 86 : 70; // with a line more where there is no room
      const longest = Math.max(...STRATEGIES.map(([name]) => held[name].shared + held[name].private));
      // So many copies fit into all hosts: a line, unless it is so far out that no bar would be seen.
      const room = (memoryMb * hosts.value) / dataMb;
      const most = room > 3 * longest ? longest : Math.max(longest, 1.02 * room);
      const scale = (width - 2) / most;
      const parts = [];
      const said = [];
      STRATEGIES.forEach(([name, label], row) => {
        const { shared, private: own, sent } = held[name];
        const all = shared + own;
        const y = height * row;
        const fits = (all * dataMb) / hosts.value <= memoryMb;
        parts.push(words(0, y + 8, label, "bold", "start"));
        parts.push(box(1, y + 19, shared * scale, 18, "shared"));
        parts.push(box(1 + shared * scale, y + 19, own * scale, 18, "private"));
        const verdict = fits ? "fits" : "does not fit";
        const where = hosts.value === 1 ? "" : `${size((all * dataMb) / hosts.value)} a host`;
        const kind = fits ? "small" : "small bold";
        const what = `${copiesOf(all)}, ${size(all * dataMb)}`;
        const onHost = `${where ? `${where}: ` : ""}${verdict}`;
        if (width < 420) {
          parts.push(words(0, y + 48, what, kind, "start"), words(0, y + 66, onHost, kind, "start"));
        } else {
          const told = `${what}${where ? ", " : ": "}${onHost}${sent ? `; ${copiesOf(sent)} sent` : ""}`;
          parts.push(words(0, y + 48, told, kind, "start"));
        }
        said.push([all, fits, sent]);
      });
      if (room <= most) {
        STRATEGIES.forEach((_, row) => {
          parts.push(line(1 + room * scale, height * row + 15, 1 + room * scale, height * row + 41, "guide"));
        });
      }
      const legend = height * STRATEGIES.length + 4;
      parts.push(box(1, legend - 6, 14, 12, "shared"), words(22, legend, "shared by all of a host", "small", "start"));
      const second = width < 400 ? [1, legend + 20] : [190, legend];
      parts.push(box(second[0], second[1] - 6, 14, 12, "private"));
      parts.push(words(second[0] + 21, second[1], "each worker's own", "small", "start"));
      let last = second[1];
      if (room <= most) {
        const [x, y] = width < 560 ? [1, (last += 20)] : [360, legend];
        parts.push(line(x + 7, y - 8, x + 7, y + 8, "guide"));
        parts.push(words(x + 21, y, "the memory of the hosts", "small", "start"));
      }
      picture.draw(last + 12, parts);

      const nAll = workers.value * hosts.value;
      const [task, push, loky, ring] = said;
      const where = hosts.value === 1 ? "" : ` on ${hosts.value} hosts`;
      summary.textContent =
        `${nAll} ${nAll === 1 ? "busy worker holds" : "busy workers"}${where}${nAll === 1 ? "" : " hold"} ` +
        `${copiesOf(task[0])} of the data if arrays ` +
        `come with each task, ${times(push[0])} if each worker is sent the data, ` +
        `${times(loky[0])} with scikit-learn, and ${times(ring[0])} with the ring. ` +
        `With ${explorables.tables.nCandidates} candidates, ${copiesOf(task[2])} go through the controller in ` +
        `the first way, ${times(push[2])} in the second, and none in the others.`;
    };
  });
})();
