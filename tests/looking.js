() => {
  const found = [], near = 2;
  const boxOf = node => node.getBoundingClientRect();
  const kindOf = text => {
    if (text.closest(".legend")) return "legend";
    if (text.closest(".annotation")) return "title";
    if (text.closest(".g-xtitle, .g-ytitle, .g-x2title, .infolayer > [class*='title']")) return "axis title";
    if (text.closest(".xtick, .ytick, .angularaxistick, .radial-axis, [class*='tick']")) return "tick";
    if (text.closest(".colorbar")) return "tick";
    return "inside";
  };
  for (const plot of document.querySelectorAll(".plot[id]")) {
    if (!plot.offsetParent) continue;
    const whole = boxOf(plot), words = [];
    for (const text of plot.querySelectorAll(".main-svg text")) {
      const box = boxOf(text), said = text.textContent.trim();
      if (!said || !box.width || getComputedStyle(text).opacity === "0") continue;
      if (text.closest(".hoverlayer, .modebar")) continue;
      const kind = kindOf(text);
      if (box.left < whole.left - near || box.right > whole.right + near || box.top < whole.top - near || box.bottom > whole.bottom + near)
        found.push(`${plot.id}: ${kind} "${said}" is cut off`);
      const turned = /rotate\((?!0[,)]|-?90[,)])/.test(text.getAttribute("transform") || "");
      words.push({ said, kind, box, turned, cell: text.closest(".heatmaplayer, .heatmap-label") !== null });
    }
    words.forEach((a, i) => words.slice(i + 1).forEach(b => {
      if ((a.kind === "inside") !== (b.kind === "inside") || (a.kind === "inside" && !(a.cell && b.cell))) return;
      if (a.turned && b.turned) return;
      const wide = Math.min(a.box.right, b.box.right) - Math.max(a.box.left, b.box.left);
      const high = Math.min(a.box.bottom, b.box.bottom) - Math.max(a.box.top, b.box.top);
      const room = a.kind === "tick" && b.kind === "tick" ? 6 : 4; // letters are less high than their boxes
      if (wide > near && high > room) found.push(`${plot.id}: ${a.kind} "${a.said}" lies on ${b.kind} "${b.said}"`);
    }));
    for (const legend of plot.querySelectorAll(".legend")) {
      const box = boxOf(legend);
      for (const panel of plot.querySelectorAll(".nsewdrag")) {
        const own = boxOf(panel);
        const wide = Math.min(box.right, own.right) - Math.max(box.left, own.left);
        const high = Math.min(box.bottom, own.bottom) - Math.max(box.top, own.top);
        if (wide > near && high > 2 * near) found.push(`${plot.id}: the legend lies on a panel`);
      }
    }
    for (const panel of plot.querySelectorAll(".nsewdrag")) {
      const own = boxOf(panel);
      if (own.width < 90 || own.height < 60) found.push(`${plot.id}: a panel of ${Math.round(own.width)} by ${Math.round(own.height)}`);
      if (own.right > whole.right + near) found.push(`${plot.id}: a panel is cut off`);
    }
  }
  for (const frame of document.querySelectorAll(".table .scroll")) {
    if (!frame.offsetParent) continue;
    const first = frame.querySelector("tbody td");
    for (const cell of frame.querySelectorAll("th, td"))
      if (cell.scrollWidth > cell.clientWidth + near) found.push(`${frame.closest(".table").id}: "${cell.textContent}" runs out of its cell`);
    if (first && boxOf(first).width > 0.5 * frame.clientWidth && frame.scrollWidth > frame.clientWidth + near)
      found.push(`${frame.closest(".table").id}: the first column takes ${Math.round(100 * boxOf(first).width / frame.clientWidth)} % of the width`);
  }
  const page = document.documentElement;
  if (page.scrollWidth > page.clientWidth) found.push(`the page is ${page.scrollWidth} wide on a screen of ${page.clientWidth}`);
  return [...new Set(found)];
}
