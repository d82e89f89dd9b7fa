// Tables sort by a click on a heading: numbers from the largest, names from A, another click the other way round.
for (const head of document.querySelectorAll("table.sorts thead th")) {
  head.firstElementChild.addEventListener("click", () => {
    const body = head.closest("table").tBodies[0];
    const numeric = head.cellIndex > 0;
    const value = row => {
      const cell = row.cells[head.cellIndex];
      return numeric ? parseFloat(cell.dataset.sort.replace("inf", "Infinity")) : cell.textContent.trim();
    };
    const before = head.getAttribute("aria-sort");
    const down = before ? before === "ascending" : numeric;
    for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const order = (a, b) => {
      const [x, y] = [value(a), value(b)];
      if (!numeric) return x.localeCompare(y) * (down ? -1 : 1);
      if (isNaN(x) || isNaN(y)) return isNaN(x) - isNaN(y);
      return (x - y) * (down ? -1 : 1) || 0;
    };
    body.append(...[...body.rows].sort(order));
  });
}
