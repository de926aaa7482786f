// Sorts tables by a click on a heading and filters the long one. Without it the page is complete, only unsorted.
(() => {
  const value = (row, index) => {
    const cell = row.cells[index];
    const order = cell.dataset.o;
    return order === undefined ? [1, cell.textContent.trim()] : [0, Number(order)];
  };
  const compare = (a, b) => {
    if (a[0] !== b[0]) return a[0] - b[0];
    return a[0] === 0 ? a[1] - b[1] : a[1].localeCompare(b[1], undefined, { numeric: true });
  };
  document.querySelectorAll("table.sortable").forEach((table) => {
    const body = table.tBodies[0];
    const headings = [...table.tHead.rows[0].cells];
    headings.forEach((heading, index) => {
      const button = document.createElement("button");
      button.type = "button";
      button.title = "sort by this column";
      button.append(...heading.childNodes);
      heading.append(button);
      button.addEventListener("click", () => {
        const sign = heading.getAttribute("aria-sort") === "ascending" ? -1 : 1;
        headings.forEach((other) => other.removeAttribute("aria-sort"));
        heading.setAttribute("aria-sort", sign === 1 ? "ascending" : "descending");
        const rows = [...body.rows];
        rows.sort((a, b) => {
          const left = value(a, index), right = value(b, index);
          return left[0] === right[0] ? sign * compare(left, right) : compare(left, right);
        });
        body.append(...rows);
      });
    });
  });
  document.querySelectorAll("input[data-filters]").forEach((input) => {
    const body = document.getElementById(input.dataset.filters).tBodies[0];
    input.closest("label").hidden = false;
    input.addEventListener("input", () => {
      const wanted = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      [...body.rows].forEach((row) => {
        const text = row.textContent.toLowerCase();
        row.hidden = !wanted.every((word) => text.includes(word));
      });
    });
  });
})();
