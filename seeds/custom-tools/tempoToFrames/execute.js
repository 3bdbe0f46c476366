(input) => {
  const { bpm, fps } = input;
  const beatsPerBar = input.beatsPerBar ?? 4;
  const bars = input.bars ?? 8;
  const startFrame = input.startFrame ?? 0;
  const hitPoints = input.hitPoints ?? [];
  const searchBpm = input.searchBpm ?? 4;
  const SEARCH_STEP_BPM = 0.1;
  const round = (value, digits = 3) => Math.round(value * 10 ** digits) / 10 ** digits;
  const framesPerBeatAt = (tempo) => (fps * 60) / tempo;

  const early = hitPoints.find((hit) => hit.frame < startFrame);
  if (early !== undefined) {
    throw new Error(`hitPoints: "${early.name}" at frame ${early.frame} lies before the first beat at ${startFrame}`);
  }

  // Frames between a hit point and its nearest beat; positive: the picture comes after the beat.
  const offsetAt = (tempo, frame) => {
    const perBeat = framesPerBeatAt(tempo);
    const beats = Math.round((frame - startFrame) / perBeat);
    return { beats, offset: frame - startFrame - beats * perBeat };
  };
  const averageMissAt = (tempo) =>
    hitPoints.reduce((sum, hit) => sum + Math.abs(offsetAt(tempo, hit.frame).offset), 0) / hitPoints.length;

  const findBestTempo = () => {
    if (hitPoints.length === 0) return null;
    let best = { bpm, averageMissFrames: averageMissAt(bpm) };
    const steps = Math.round(searchBpm / SEARCH_STEP_BPM);
    for (let step = -steps; step <= steps; step += 1) {
      const tempo = bpm + step * SEARCH_STEP_BPM;
      if (tempo < 20) continue;
      const miss = averageMissAt(tempo);
      if (miss < best.averageMissFrames - 1e-9) best = { bpm: tempo, averageMissFrames: miss };
    }
    return { bpm: round(best.bpm), averageMissFrames: round(best.averageMissFrames) };
  };

  const framesPerBeat = framesPerBeatAt(bpm);
  const framesPerBar = framesPerBeat * beatsPerBar;
  return {
    bpm,
    fps,
    secondsPerBeat: round(60 / bpm, 4),
    framesPerBeat: round(framesPerBeat),
    framesPerBar: round(framesPerBar),
    barStarts: Array.from({ length: bars }, (_, index) => ({
      bar: index + 1,
      // Computed from the first beat each time, so that rounding does not add up.
      frame: startFrame + Math.round(index * framesPerBar),
      seconds: round((index * framesPerBar) / fps),
    })),
    hitPoints: hitPoints.map(({ name, frame }) => {
      const { beats, offset } = offsetAt(bpm, frame);
      return {
        name,
        frame,
        nearest: { bar: Math.floor(beats / beatsPerBar) + 1, beat: (beats % beatsPerBar) + 1 },
        offsetFrames: round(offset),
        offsetMilliseconds: round((offset / fps) * 1000, 1),
      };
    }),
    averageMissFrames: hitPoints.length === 0 ? null : round(averageMissAt(bpm)),
    bestTempo: findBestTempo(),
  };
}
