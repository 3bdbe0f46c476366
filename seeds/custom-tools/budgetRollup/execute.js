(input) => {
  const contingencyPercent = input.contingencyPercent ?? 10;
  const toCents = (amount) => Math.round(amount * 100 + 1e-6);
  const toAmount = (cents) => cents / 100;
  const percent = (part, whole) => (whole === 0 ? 0 : Math.round((part / whole) * 1000) / 10);

  const lines = input.lines.map((line) => {
    const base = toCents(line.quantity * (line.count ?? 1) * line.rate);
    const fringes = Math.round((base * (line.fringePercent ?? 0)) / 100);
    return { ...line, base, fringes, total: base + fringes };
  });

  const sum = (chosen, key) => chosen.reduce((total, line) => total + line[key], 0);
  const totalsBy = (key) => {
    const names = [...new Set(lines.map((line) => line[key]))];
    return names.map((name) => {
      const chosen = lines.filter((line) => line[key] === name);
      return { name, base: sum(chosen, 'base'), fringes: sum(chosen, 'fringes'), total: sum(chosen, 'total') };
    });
  };

  const subtotal = sum(lines, 'total');
  const carrying = lines.filter((line) => line.excludeFromContingency !== true);
  const contingency = Math.round((sum(carrying, 'total') * contingencyPercent) / 100);
  const total = subtotal + contingency;
  if (!Number.isSafeInteger(total)) throw new Error('the total is too large to be exact to the cent');

  const inAmounts = (entry) => ({
    name: entry.name,
    base: toAmount(entry.base),
    fringes: toAmount(entry.fringes),
    total: toAmount(entry.total),
    sharePercent: percent(entry.total, subtotal),
  });
  const cap = input.cap === undefined ? null : toCents(input.cap);
  return {
    currency: input.currency ?? 'EUR',
    lines: lines.map(({ account, description, base, fringes, total: lineTotal }) => ({
      account,
      description,
      base: toAmount(base),
      fringes: toAmount(fringes),
      total: toAmount(lineTotal),
    })),
    byCategory: totalsBy('category').map(inAmounts),
    byAccount: totalsBy('account').map(inAmounts),
    base: toAmount(sum(lines, 'base')),
    fringes: toAmount(sum(lines, 'fringes')),
    subtotal: toAmount(subtotal),
    contingencyPercent,
    contingency: toAmount(contingency),
    total: toAmount(total),
    cap: cap === null ? null : toAmount(cap),
    // Positive: money left; negative: over the cap.
    remainingUnderCap: cap === null ? null : toAmount(cap - total),
    largestLines: [...lines]
      .sort((a, b) => b.total - a.total)
      .slice(0, 5)
      .map((line) => ({ account: line.account, description: line.description, total: toAmount(line.total) })),
  };
}
