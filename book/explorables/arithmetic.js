/* What the explorables compute. Pure functions, which need no page.

   `ring` and `copies` read the tables that mscourse.layout has made. `simulate` does in the browser
   what mscourse.scheduler.Scheduler does on the virtual machine of mscourse.cluster.virtual, step by
   step, with the package's own constants. tests/test_explorables.py holds all of it against the
   package. */
(function () {
  "use strict";
  const explorables = globalThis.explorables;
  const tables = explorables.tables;

  /* Where split number `split` of so many folds lies, and what the first `percent` of its train set
     read. */
  explorables.ring = function (nFolds, split, percent) {
    const table = tables.rings[nFolds];
    const [trainStart, trainStop, testStart, testStop] = table.splits[split];
    const nEach = tables.nSamples / nFolds;
    const foldsOf = (start, stop) => table.folds.slice(start / nEach, stop / nEach);
    return {
      nStored: table.nStored,
      copies: table.nStored / tables.nSamples,
      folds: table.folds,
      splits: table.splits,
      trainStart,
      trainStop,
      testStart,
      testStop,
      trainFolds: foldsOf(trainStart, trainStop),
      nTrain: table.nTrain[tables.percent.indexOf(percent)],
    };
  };

  /* Copies of the data, on all hosts together: shared by the processes of a host, private to the
     workers, and sent through the controller. */
  explorables.copies = function (nWorkers, nHosts, nFolds) {
    const nAll = nWorkers * nHosts;
    const stored = tables.rings[nFolds].nStored / tables.nSamples;
    return {
      task: { shared: 0, private: nAll, sent: tables.nCandidates * nFolds },
      push: { shared: 0, private: 2 * nAll, sent: nAll },
      loky: { shared: nHosts, private: nAll, sent: 0 },
      ring: { shared: nHosts * stored, private: 0, sent: 0 },
    };
  };

  /* A search on `nEngines` engines. Each action is {atS, kind: "add"} or {atS, kind: "kill", engine};
     engines are numbered as they join. overS is null if nobody is left to do the rest. */
  explorables.simulate = function (durations, nEngines, actions) {
    const { batchTargetS, clientSPerMessage, batchLeast, batchMostItems } = tables.scheduler;
    const { latestWeight, mostDeaths, lookForEnginesS, newsOfDeathS } = tables.scheduler;
    const costs = tables.overheads;
    const latencyS = costs.latency_s / 2;

    const sums = [0];
    for (const each of durations) sums.push(sums[sums.length - 1] + each);
    const workS = (first, n) => sums[first + n] - sums[first];

    // What happens to engines, in its order: one joins (0), or dies (1).
    const joins = Array(nEngines).fill(0);
    for (const each of actions) if (each.kind === "add") joins.push(each.atS);
    const events = joins.map((atS, number) => [atS, number, 0]);
    for (const each of actions) if (each.kind === "kill") events.push([each.atS, each.engine, 1]);
    events.sort((a, b) => a[0] - b[0] || a[1] - b[1] || a[2] - b[2]);

    // The virtual machine.
    let nowS = 0;
    let next = 0; // the first evaluation that was never sent
    let hasLost = false;
    const engines = new Map(); // those that live
    const lives = []; // all there ever were
    const arriving = []; // [when, in which order, batch]
    let nArrivals = 0;
    const sent = [];
    // The scheduler.
    const tasks = durations.map((_, number) => ({ number, nDeaths: 0, hasEnded: false }));
    const lost = [];
    const underWay = new Map();
    let durationS = null;
    let nEnded = 0;
    let nGivenUp = 0;
    let nRerun = 0;

    const nWaiting = () => durations.length - next;

    function willArrive(batch, atS) {
      batch.arrivesS = atS;
      arriving.push([atS, nArrivals++, batch]);
      arriving.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
    }

    function send(number, batchTasks) {
      const engine = engines.get(number);
      const first = batchTasks[0].number;
      const n = batchTasks.length;
      nowS += (costs.client_s_per_message + n * costs.client_s_per_item) / 2;
      const startS = Math.max(nowS + latencyS, engine.freeS) + costs.engine_s_per_message;
      const work = workS(first, n);
      const endS = startS + work + n * costs.engine_s_per_item;
      engine.freeS = endS;
      const batch = { engine: number, first, n, startS, endS, workS: work, tasks: batchTasks };
      batch.isDead = batch.isBack = false;
      batch.again = batchTasks.some((task) => task.nSent > 0);
      for (const task of batchTasks) task.nSent = (task.nSent || 0) + 1;
      engine.batches.push(batch);
      sent.push(batch);
      willArrive(batch, endS + latencyS);
      if (!underWay.has(number)) underWay.set(number, []);
      underWay.get(number).push(batch);
    }

    function batchSize(nAll) {
      if (durationS === null) return 1;
      const each = Math.max(durationS, 1e-9);
      const target = Math.max(batchTargetS, nAll * clientSPerMessage);
      const byTime = Math.trunc(target / each);
      const fairShare = Math.ceil(nWaiting() / (2 * nAll));
      const least = Math.trunc((batchLeast * target) / each);
      return Math.max(1, Math.min(byTime, Math.max(fairShare, least), batchMostItems));
    }

    function nextTasks(nAll, ahead) {
      // One by one, and only to idle engines: if one more dies, the culprit is known.
      if (lost.length) return ahead ? [] : [lost.shift()];
      if (!nWaiting() || (ahead && nWaiting() < nAll)) return [];
      const n = Math.min(batchSize(nAll), nWaiting());
      next += n;
      return tasks.slice(next - n, next);
    }

    function sendTo() {
      hasLost = lost.length > 0;
      nowS += costs.client_s_per_engine * engines.size;
      const most = hasLost || nWaiting() >= engines.size ? 1 : 0;
      const listed = [...engines.values()]
        .filter((engine) => engine.batches.length <= most)
        .map((engine) => engine.number)
        .sort((a, b) => a - b);
      for (const depth of [1, 2]) {
        for (const number of listed) {
          if ((underWay.get(number) || []).length < depth) {
            const batchTasks = nextTasks(engines.size, depth === 2);
            if (batchTasks.length) send(number, batchTasks);
          }
        }
      }
    }

    function kill(number, atS) {
      const engine = engines.get(number);
      engines.delete(number);
      lives[number].endedS = atS;
      for (const batch of engine.batches) {
        if (batch.endS > atS) {
          batch.isDead = true;
          batch.cutS = atS;
          batch.nBegun = 0;
          for (let n = 0; n < batch.n; n++) {
            const beganS = batch.startS + workS(batch.first, n) + n * costs.engine_s_per_item;
            if (beganS <= atS) batch.nBegun++;
          }
          nRerun += batch.nBegun;
          willArrive(batch, atS + newsOfDeathS);
        }
      }
    }

    function happen() {
      const [atS, number, kind] = events.shift();
      if (kind === 0) {
        engines.set(number, { number, freeS: 0, batches: [] });
        lives[number] = { joinedS: atS, endedS: null };
        return true;
      }
      if (engines.has(number)) kill(number, atS);
      return false;
    }

    /* Set the clock to when the scheduler wakes; give the batches that have come back. */
    function wait() {
      const lookedS = nowS;
      let lookS = Infinity;
      let wakesS;
      for (;;) {
        while (arriving.length && arriving[0][0] !== arriving[0][2].arrivesS) arriving.shift();
        const arrivesS = arriving.length ? arriving[0][0] : Infinity;
        wakesS = Math.min(Math.max(arrivesS, nowS), lookS);
        const happensS = events.length ? events[0][0] : Infinity;
        if (happensS > wakesS || happensS === Infinity) break;
        if (happen()) {
          const periods = Math.ceil((happensS - lookedS) / lookForEnginesS);
          lookS = Math.min(lookS, lookedS + Math.max(periods, 0) * lookForEnginesS);
        }
      }
      if (wakesS === Infinity) return null;
      nowS = Math.max(nowS, wakesS);
      const back = [];
      while (arriving.length && arriving[0][0] <= nowS) {
        const [atS, , batch] = arriving.shift();
        if (atS === batch.arrivesS) back.push(batch);
      }
      return back;
    }

    function bury(batch) {
      const batches = underWay.get(batch.engine) || [];
      underWay.delete(batch.engine);
      if (!batches.includes(batch)) return; // the other batch has brought the news
      for (const task of batches[0].tasks) task.nDeaths++;
      for (const task of batches.flatMap((each) => each.tasks)) {
        if (task.nDeaths >= mostDeaths) {
          if (!task.hasEnded) {
            task.hasEnded = true;
            nEnded++;
            nGivenUp++;
          }
        } else if (!task.hasEnded) {
          lost.push(task);
        }
      }
    }

    function takeIn(batch) {
      if (batch.isDead) {
        bury(batch);
      } else {
        const batches = underWay.get(batch.engine) || [];
        const place = batches.indexOf(batch);
        if (place >= 0) batches.splice(place, 1);
        for (const task of batch.tasks) {
          if (!task.hasEnded) {
            task.hasEnded = true;
            nEnded++;
          }
        }
        batch.isBack = true;
        const each = batch.workS / batch.n;
        durationS = durationS === null ? each : durationS + latestWeight * (each - durationS);
      }
      // What the client spends on a batch that comes back.
      nowS += (costs.client_s_per_message + batch.n * costs.client_s_per_item) / 2;
      const engine = engines.get(batch.engine);
      if (engine) engine.batches.splice(engine.batches.indexOf(batch), 1);
      batch.backS = nowS;
    }

    const isUnderWay = () => [...underWay.values()].some((batches) => batches.length > 0);
    let isStalled = false;
    while (isUnderWay() || lost.length || nWaiting()) {
      sendTo();
      const back = wait();
      if (back === null) {
        isStalled = true;
        break;
      }
      for (const batch of back) takeIn(batch);
    }
    const overS = isStalled ? null : nowS;
    return {
      overS,
      stalledS: isStalled ? Math.max(...lives.map((life) => life.endedS)) : null,
      bars: sent.map((batch) => ({
        engine: batch.engine,
        first: batch.first,
        n: batch.n,
        startS: batch.startS,
        endS: batch.isDead ? batch.cutS : batch.endS,
        backS: batch.isBack ? batch.backS : null,
        died: batch.isDead,
        again: batch.again,
        nBegun: batch.isDead ? batch.nBegun : batch.n,
      })),
      lives,
      nEnded,
      nRerun,
      nGivenUp,
    };
  };

  /* The same evaluations, shared out beforehand. What an engine has done when it dies counts, and
     nobody does the rest. Messages cost nothing. */
  explorables.staticSplit = function (durations, nEngines, actions) {
    const bars = [];
    const lives = [];
    let first = 0;
    for (let engine = 0; engine < nEngines; engine++) {
      const n = Math.floor(durations.length / nEngines) + (engine < durations.length % nEngines);
      const death = actions.find((each) => each.kind === "kill" && each.engine === engine);
      const diesS = death ? death.atS : Infinity;
      lives.push({ joinedS: 0, endedS: death ? death.atS : null });
      let endS = 0;
      for (let number = first; number < first + n; number++) {
        const startS = endS;
        endS += durations[number];
        if (diesS < endS) {
          if (diesS > startS) bars.push({ engine, first: number, n: 1, startS, endS: diesS, died: true });
          break;
        }
        bars.push({ engine, first: number, n: 1, startS, endS, died: false });
      }
      first += n;
    }
    for (const each of actions) {
      if (each.kind === "add") lives.push({ joinedS: each.atS, endedS: null });
      else if (each.engine >= nEngines) lives[each.engine].endedS = each.atS;
    }
    const done = bars.filter((bar) => !bar.died);
    const overS = Math.max(0, ...done.map((bar) => bar.endS));
    return { bars, lives, overS, nEnded: done.length };
  };

  /* The part of the engines' time, from when they join to their death or to the end, in which they
     compute nothing. */
  explorables.idlePart = function (bars, lives, overS) {
    let presentS = 0;
    for (const life of lives) {
      const endedS = life.endedS === null ? overS : Math.min(life.endedS, overS);
      presentS += Math.max(0, endedS - life.joinedS);
    }
    let busyS = 0;
    for (const bar of bars) busyS += Math.max(0, Math.min(bar.endS, overS) - bar.startS);
    return presentS > 0 ? 1 - busyS / presentS : 0;
  };
})();
