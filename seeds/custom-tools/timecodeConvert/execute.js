(input) => {
  const { fps } = input;
  const dropFrame = input.dropFrame ?? false;
  const nominal = Math.round(fps); // how many frame numbers a second of timecode has
  const isPulledDown = fps !== nominal;
  const realFps = isPulledDown ? (nominal * 1000) / 1001 : nominal;
  if (dropFrame && nominal !== 30 && nominal !== 60) throw new Error(`there is no drop-frame timecode at ${fps} fps`);
  if (dropFrame && !isPulledDown) throw new Error(`drop-frame corrects 29.97 and 59.94 fps; ${fps} fps needs none`);

  // Drop-frame skips frame numbers, not frames: the first 2 (at 59.94: 4) of each minute but every tenth.
  const dropped = dropFrame ? nominal / 15 : 0;
  const framesPerMinute = nominal * 60 - dropped;
  const framesPerTenMinutes = framesPerMinute * 10 + dropped;
  const pad = (value) => String(value).padStart(2, '0');

  const toFrame = (label, timecode) => {
    const [hours, minutes, seconds, frames] = timecode.split(/[:;]/).map(Number);
    if (minutes > 59 || seconds > 59) throw new Error(`${label}: ${timecode} has more than 59 minutes or seconds`);
    if (frames >= nominal) {
      throw new Error(`${label}: ${timecode} has frame ${frames}, but at ${fps} fps the last is ${nominal - 1}`);
    }
    if (frames < dropped && seconds === 0 && minutes % 10 !== 0) {
      throw new Error(`${label}: ${timecode} does not exist in drop-frame timecode`);
    }
    const totalMinutes = hours * 60 + minutes;
    const skipped = dropped * (totalMinutes - Math.floor(totalMinutes / 10));
    return (totalMinutes * 60 + seconds) * nominal + frames - skipped;
  };

  const toTimecode = (frame) => {
    const tens = Math.floor(frame / framesPerTenMinutes);
    const rest = frame % framesPerTenMinutes;
    // The first minute of ten keeps all its numbers; each later one has skipped some.
    const skippedInRest = rest < nominal * 60 ? 0 : dropped * (1 + Math.floor((rest - nominal * 60) / framesPerMinute));
    const number = frame + tens * dropped * 9 + skippedInRest;
    const seconds = Math.floor(number / nominal);
    const clock = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60].map(pad).join(':');
    return `${clock}${dropFrame ? ';' : ':'}${pad(number % nominal)}`;
  };

  const secondsOf = (frames) => (frames === null ? null : Math.round((frames / realFps) * 1000) / 1000);
  let previous = null;
  const marks = input.marks.map(({ label, timecode, frame }) => {
    if ((timecode === undefined) === (frame === undefined)) {
      throw new Error(`${label}: give either timecode or frame, not both and not neither`);
    }
    const count = frame ?? toFrame(label, timecode);
    const framesSincePrevious = previous === null ? null : count - previous;
    previous = count;
    return {
      label,
      timecode: toTimecode(count),
      frame: count,
      realSeconds: secondsOf(count),
      framesSincePrevious,
      secondsSincePrevious: secondsOf(framesSincePrevious),
    };
  });

  return { fps, dropFrame, marks };
}
