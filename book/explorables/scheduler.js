/* Engines that are added and killed while a search runs, and what becomes of the work. */
(function () {
  "use strict";
  const explorables = globalThis.explorables;
  const { element } = explorables;
  const { box, words, line } = explorables.svg;

  const MOST_ENGINES = 8;
  const SCENARIOS = [
    ["uneven", "100, some take long"],
    ["alike", "100, all alike"],
    ["short", "600 short ones"],
  ];
  const PLAY_S = 12; // how long a whole search takes when it is played
  const ROW = 22;

  const seconds = (s) => `${s.toFixed(1)} s`;
  const percent = (part) => `${(100 * part).toFixed(part < 0.1 ? 1 : 0)} %`;

  explorables.show("scheduler", (panel) => {
    const durationsOf = explorables.tables.scenarios;
    const nEngines = explorables.tables.nEngines;
    let actions = [];
    let played = null; // the frame that is asked for, while it plays

    const scenario = panel.choice("evaluations", SCENARIOS, "uneven", () => startOver());
    const moment = panel.range("moment", { min: 0, max: 20, step: 0.1, value: 4, text: seconds });
    const button = (text, act) => element("button", { type: "button", onclick: act }, text);

    const play = button("Play", () => (played === null ? start() : pause()));
    const add = button("Add an engine", () => act({ kind: "add" }));
    const undo = button("Take back", () => {
      actions.pop();
      panel.draw();
    });
    const over = button("Start over", () => {
      startOver();
      panel.draw();
    });
    const killers = Array.from({ length: MOST_ENGINES }, (_, engine) => {
      const killer = button(String(engine), () => act({ kind: "kill", engine }));
      killer.setAttribute("aria-label", `Kill engine ${engine}`);
      return killer;
    });
    panel.controls.append(
      element("div", { class: "explorable-buttons" }, play, add, undo, over),
      element("div", { class: "explorable-buttons" }, element("span", {}, "Kill engine"), ...killers),
    );
    const picture = panel.picture();
    const summary = panel.summary();
    const table = element("table", { class: "explorable-table" });
    panel.root.append(table);

    function startOver() {
      pause();
      actions = [];
      moment.value = 4;
    }

    /* A button that cannot be used keeps the focus, and says that it is disabled. */
    const enable = (each, can) => each.setAttribute("aria-disabled", String(!can));
    const isEnabled = (each) => each.getAttribute("aria-disabled") !== "true";

    function act(action) {
      const pressed = action.kind === "add" ? add : killers[action.engine];
      if (!isEnabled(pressed)) return;
      const atS = moment.value;
      // What was done later is taken back: engines are numbered as they join.
      actions = actions.filter((each) => each.atS <= atS);
      actions.push({ ...action, atS });
      panel.draw();
    }

    function start() {
      summary.setAttribute("aria-live", "off");
      play.textContent = "Pause";
      let beforeMs = null;
      if (moment.value >= Number(moment.input.max)) moment.value = 0; // once more
      let nowS = moment.value;
      const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
      const frame = (ms) => {
        const passedMs = beforeMs === null ? 0 : ms - beforeMs;
        if (beforeMs === null || !calm || passedMs >= 1000) {
          beforeMs = ms;
          const mostS = Number(moment.input.max);
          // The reader may have moved it meanwhile.
          if (Math.abs(moment.value - nowS) > 0.11) nowS = moment.value;
          nowS = Math.min(mostS, nowS + ((passedMs / 1000) * mostS) / PLAY_S);
          moment.value = nowS;
          panel.draw();
          if (nowS >= mostS) return pause();
        }
        played = requestAnimationFrame(frame);
      };
      played = requestAnimationFrame(frame);
    }

    function pause() {
      if (played !== null) cancelAnimationFrame(played);
      played = null;
      play.textContent = "Play";
      summary.setAttribute("aria-live", "polite");
    }

    let known = null; // the latest search, which is computed anew only when it is another one
    function outcome() {
      const key = scenario.value + JSON.stringify(actions);
      if (known === null || known.key !== key) {
        const durations = durationsOf[scenario.value];
        known = {
          key,
          nAll: durations.length,
          queue: explorables.simulate(durations, nEngines, actions),
          split: explorables.staticSplit(durations, nEngines, actions),
          calmS: explorables.simulate(durations, nEngines, []).overS,
        };
      }
      return known;
    }

    return () => {
      const { nAll, queue, split, calmS } = outcome();
      const queueEndS = queue.overS === null ? queue.stalledS : queue.overS;
      // With room to go on after the last engine has died.
      const roomS = queue.overS === null ? queueEndS + 2 : queueEndS;
      const endS = Math.max(roomS, split.overS, calmS, ...actions.map((each) => each.atS));
      moment.most = Math.ceil(2 * endS + 1) / 2;
      const nowS = moment.value;
      const mostS = Number(moment.input.max);

      queue.lives.forEach((life, engine) => {
        if (engine >= MOST_ENGINES) return;
        enable(killers[engine], life.joinedS <= nowS && (life.endedS === null || life.endedS > nowS));
      });
      killers.forEach((killer, engine) => {
        killer.hidden = engine >= queue.lives.length;
      });
      const nJoined = queue.lives.filter((life, e) => e < nEngines || life.joinedS <= nowS).length;
      enable(add, nJoined < MOST_ENGINES);
      enable(undo, actions.length > 0);

      const width = picture.width;
      const left = 66;
      const x = (s) => left + ((width - left - 8) * s) / mostS;
      const parts = [];

      const timeline = (top, title, bars, lives, overS) => {
        parts.push(words(0, top + 8, title, "bold", "start"));
        lives.forEach((life, engine) => {
          const y = top + 22 + ROW * engine;
          parts.push(words(left - 8, y + 8, `engine ${engine}`, "small", "end"));
          const lastS = life.endedS === null ? Math.max(overS, life.joinedS) : life.endedS;
          parts.push(box(x(life.joinedS), y, x(lastS) - x(life.joinedS), 16, "there"));
        });
        for (const bar of bars) {
          if (bar.endS <= bar.startS) continue; // its engine died before it began
          const kind = bar.died ? "lost" : bar.again ? "again" : "work";
          const y = top + 22 + ROW * bar.engine;
          parts.push(box(x(bar.startS), y, x(bar.endS) - x(bar.startS), 16, kind));
        }
        lives.forEach((life, engine) => {
          if (life.endedS === null) return;
          const y = top + 22 + ROW * engine;
          parts.push(line(x(life.endedS) - 5, y + 3, x(life.endedS) + 5, y + 13, "cross"));
          parts.push(line(x(life.endedS) + 5, y + 3, x(life.endedS) - 5, y + 13, "cross"));
        });
        // What comes after the moment is only foreseen.
        const bottom = top + 22 + ROW * lives.length;
        parts.push(box(x(nowS), top + 20, width - x(nowS), bottom - top - 20, "future"));
        parts.push(line(x(nowS), top + 18, x(nowS), bottom, "moment"));
        return bottom;
      };

      let bottom = timeline(0, "mscourse: a queue", queue.bars, queue.lives, queueEndS);
      bottom = timeline(bottom + 12, "shared out beforehand", split.bars, split.lives, split.overS);
      const step = [0.5, 1, 2, 5, 10, 20].find((each) => (mostS / each) * 44 <= width - left) || 50;
      for (let s = 0; s <= mostS; s += step) {
        parts.push(line(x(s), bottom, x(s), bottom + 4, "tick"));
        // The last one would stick out.
        const isLast = x(s) > width - 20;
        parts.push(words(isLast ? width : x(s), bottom + 13, `${s} s`, "small", isLast ? "end" : "middle"));
      }
      const entries = [
        ["work", "evaluations", 108],
        ["lost", "lost with its engine", 156],
        ["again", "done again", 104],
        ["there", "idle", 60],
      ];
      const legend = explorables.svg.legend(entries, bottom + 36, width);
      picture.draw(legend.bottom, [...parts, ...legend.parts]);

      const countDone = queue.bars
        .filter((bar) => bar.backS !== null && bar.backS <= nowS)
        .reduce((sum, bar) => sum + bar.n, 0);
      const splitDone = split.bars.filter((bar) => !bar.died && bar.endS <= nowS).length;
      const lostNow = queue.bars
        .filter((bar) => bar.died && bar.endS <= nowS)
        .reduce((sum, bar) => sum + bar.nBegun, 0);
      const ended =
        queue.overS === null
          ? `Nobody is left to do the other ${nAll - queue.nEnded}: add an engine, and the search goes on.`
          : `With the queue all are done after ${seconds(queue.overS)}.`;
      const nNever = nAll - split.nEnded;
      summary.textContent =
        `At ${seconds(nowS)}, ${countDone} of ${nAll} evaluations are done with the queue, ` +
        `${lostNow} lost with their engine; ${splitDone} are done if the work was shared out. ${ended} ` +
        (nNever
          ? `If it was shared out, ${nNever} are never done.`
          : `If it was shared out, after ${seconds(split.overS)}.`);

      const idle = (run, overS) => percent(explorables.idlePart(run.bars, run.lives, overS));
      const rows = [
        ["at the end", "queue", "shared out"],
        ["done", `${queue.nEnded - queue.nGivenUp} of ${nAll}`, `${split.nEnded} of ${nAll}`],
        ["lost and done again", String(queue.nRerun), "0"],
        ["never done", String(nAll - queue.nEnded + queue.nGivenUp), String(nNever)],
        ["over after", queue.overS === null ? "waits" : seconds(queue.overS), seconds(split.overS)],
        ["engines idle", idle(queue, queueEndS), idle(split, split.overS)],
      ];
      table.replaceChildren(
        ...rows.map(([name, ...cells], row) =>
          element(
            "tr",
            {},
            element("th", { scope: row ? "row" : "col" }, name),
            ...cells.map((cell) => element(row ? "td" : "th", row ? {} : { scope: "col" }, cell)),
          ),
        ),
      );
    };
  });
})();
