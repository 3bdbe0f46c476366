(input) => {
  const { fps } = input;
  const round = (value) => Math.round(value * 100) / 100;
  const secondsOf = (frames) => round(frames / fps);
  const clockOf = (frames) => {
    const seconds = Math.round(frames / fps); // cue sheets are filed in whole seconds
    return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')}`;
  };

  const toFrames = (cue, timecode) => {
    const [hours, minutes, seconds, frames] = timecode.split(':').map(Number);
    if (minutes > 59 || seconds > 59 || frames >= fps) {
      throw new Error(`cue ${cue}: ${timecode} is no timecode at ${fps} fps`);
    }
    return ((hours * 60 + minutes) * 60 + seconds) * fps + frames;
  };

  const cues = input.cues
    .map((cue) => {
      const start = toFrames(cue.cue, cue.in);
      const end = toFrames(cue.cue, cue.out);
      if (end <= start) throw new Error(`cue ${cue.cue}: out ${cue.out} is not after in ${cue.in}`);
      return { ...cue, composer: cue.composer ?? 'unknown', start, end, frames: end - start };
    })
    .sort((a, b) => a.start - b.start);

  // Walks through the cues in order, keeping the end of the music so far: what begins before it overlaps.
  const overlaps = [];
  const gaps = [];
  let latest = cues[0];
  let musicFrames = cues[0].frames;
  for (const cue of cues.slice(1)) {
    if (cue.start < latest.end) {
      overlaps.push({ cues: [latest.cue, cue.cue], seconds: secondsOf(Math.min(cue.end, latest.end) - cue.start) });
    } else if (cue.start > latest.end) {
      gaps.push({ after: latest.cue, before: cue.cue, seconds: secondsOf(cue.start - latest.end) });
    }
    musicFrames += Math.max(0, cue.end - Math.max(cue.start, latest.end));
    if (cue.end > latest.end) latest = cue;
  }

  const totalsBy = (key) => {
    const totals = new Map();
    for (const cue of cues) {
      const entry = totals.get(cue[key]) ?? { cues: 0, frames: 0 };
      totals.set(cue[key], { cues: entry.cues + 1, frames: entry.frames + cue.frames });
    }
    return [...totals].map(([name, { cues: count, frames }]) => ({
      name,
      cues: count,
      seconds: secondsOf(frames),
      duration: clockOf(frames),
    }));
  };

  const musicSeconds = musicFrames / fps;
  const { programSeconds } = input;
  if (programSeconds !== undefined && musicSeconds > programSeconds) {
    throw new Error(`the music lasts ${round(musicSeconds)} s, longer than the program of ${programSeconds} s`);
  }
  return {
    cues: cues.map(({ cue, title, composer, use, frames, in: first, out }) => ({
      cue,
      title,
      composer,
      use,
      in: first,
      out,
      seconds: secondsOf(frames),
      duration: clockOf(frames),
    })),
    totalSeconds: secondsOf(cues.reduce((sum, cue) => sum + cue.frames, 0)),
    musicSeconds: round(musicSeconds), // overlapping cues counted once
    coveragePercent: programSeconds === undefined ? null : round((musicSeconds / programSeconds) * 100),
    byUse: totalsBy('use'),
    byComposer: totalsBy('composer'),
    overlaps,
    gaps,
    withoutComposer: cues.filter((cue) => cue.composer === 'unknown').map((cue) => cue.cue),
  };
}
