/* The ring: where the rows of each split lie in the file, and what a learning curve reads. */
(function () {
  "use strict";
  const explorables = globalThis.explorables;
  const { box, words, line } = explorables.svg;

  const number = (n) => n.toLocaleString("en-GB");
  const numbers = (n) => Array.from({ length: n }, (_, i) => [String(i), String(i)]);

  explorables.show("ring", (panel) => {
    const folds = panel.range("folds, k", { min: 2, max: 10, value: 5 });
    const split = panel.choice("split", numbers(5), "2");
    const part = panel.range("rows of the train set", {
      min: 10,
      max: 100,
      step: 10,
      value: 30,
      text: (percent) => (percent === 100 ? "all" : `first ${percent} %`),
    });
    folds.input.addEventListener("input", () => {
      const kept = Math.min(Number(split.value), folds.value - 1);
      split.put(numbers(folds.value), String(kept));
    });
    // This listener comes after the panel's own, which has drawn the old split.
    folds.input.addEventListener("input", () => panel.draw());

    const picture = panel.picture();
    const summary = panel.summary();

    return () => {
      const k = folds.value;
      const chosen = Math.min(Number(split.value), k - 1);
      const ring = explorables.ring(k, chosen, part.value);
      const width = picture.width;
      const left = 60;
      const scale = (width - left - 1) / ring.nStored;
      const x = (row) => left + row * scale;
      const nEach = ring.nStored / ring.folds.length;
      const parts = [words(left - 8, 32, "file", "", "end")];

      ring.folds.forEach((fold, place) => {
        const kind = place < k ? "fold" : "fold fold-again";
        parts.push(box(x(place * nEach), 18, nEach * scale, 28, kind));
        parts.push(words(x((place + 0.5) * nEach), 32, String(fold), nEach * scale < 14 ? "tiny" : ""));
      });
      parts.push(words(x(0), 8, "the k folds", "small", "start"));
      if (k > 2) {
        const again = width < 460 && k < 4 ? "again" : k === 3 ? "1 again" : `${k - 2} again`;
        parts.push(words(x(k * nEach), 8, again, "small", "start"));
      }
      ring.splits.forEach(([trainStart, trainStop, testStart, testStop], i) => {
        const isChosen = i === chosen;
        const y = 56 + 20 * i + (i > chosen ? 14 : 0);
        const height = isChosen ? 28 : 14;
        const middle = y + height / 2;
        const faded = isChosen ? "" : " faded";
        parts.push(words(left - 8, middle, `split ${i}`, isChosen ? "bold" : "", "end"));
        parts.push(box(x(trainStart), y, (trainStop - trainStart) * scale, height, "train" + faded));
        parts.push(box(x(testStart), y, (testStop - testStart) * scale, height, "test" + faded));
        if (!isChosen) return;
        parts.push(box(x(trainStart), y, ring.nTrain * scale, height, "read"));
        const testWidth = (testStop - testStart) * scale;
        if (testWidth >= 30) parts.push(words(x((testStart + testStop) / 2), middle, "test", "on-test"));
        const readWidth = ring.nTrain * scale;
        const trainWidth = (trainStop - trainStart) * scale;
        if (readWidth > 40) parts.push(words(x(trainStart) + readWidth / 2, middle, "read", "on-read"));
        if (trainWidth - readWidth > 40) {
          parts.push(words(x(trainStart) + (readWidth + trainWidth) / 2, middle, "train", "on-train"));
        }
        for (const row of [trainStart, trainStop]) parts.push(line(x(row), 46, x(row), y, "guide"));
      });
      const entries = [
        ["test", "test", 64],
        ["train", "train", 68],
        ["read", "read of the train set", 150],
      ];
      const legend = explorables.svg.legend(entries, 56 + 20 * k + 28, width);
      picture.draw(legend.bottom, [...parts, ...legend.parts]);

      const copies = Number(ring.copies.toFixed(2));
      const range = (start, stop) => `${number(start)} to ${number(stop - 1)}`;
      const all = ring.trainStop - ring.trainStart;
      const what =
        ring.nTrain === all
          ? `All ${number(all)} of them are one slice.`
          : `A learning curve that trains on the first ${part.value} % reads ` +
            `${number(ring.nTrain)} of these ${number(all)}, rows ` +
            `${range(ring.trainStart, ring.trainStart + ring.nTrain)}: a slice as well.`;
      summary.textContent =
        `The file of ${k} folds holds the data 2 − 2/${k} = ${copies.toFixed(2)} times: ` +
        `${number(ring.nStored)} rows for ${number(explorables.tables.nSamples)}. ` +
        `Split ${chosen} tests on rows ${range(ring.testStart, ring.testStop)} of the file and ` +
        `trains on rows ${range(ring.trainStart, ring.trainStop)}, ` +
        `${ring.trainFolds.length > 1 ? "folds" : "fold"} ${ring.trainFolds.join(" ")}. ${what}`;
    };
  });
})();
