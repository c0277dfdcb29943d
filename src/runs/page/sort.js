for (const button of document.querySelectorAll("table.sortable th button")) {
  button.addEventListener("click", () => {
    const head = button.parentElement, body = head.closest("table").tBodies[0], at = head.cellIndex;
    const up = head.getAttribute("aria-sort") !== "ascending";
    const value = row => row.cells[at].dataset.sort ?? row.cells[at].textContent;
    const order = (a, b) => {
      const [x, y] = [value(a), value(b)], [m, n] = [Number(x), Number(y)];
      // What is no number comes last, whichever way the numbers go.
      if (isNaN(m) !== isNaN(n)) return isNaN(m) ? 1 : -1;
      return (isNaN(m) ? x.localeCompare(y) : m - n) * (up ? 1 : -1);
    };
    [...body.rows].sort(order).forEach(row => body.append(row));
    for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
  });
}
