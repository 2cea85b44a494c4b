const textOf = cell => cell.title || cell.textContent.trim();
const gap = text => text === "" || text === "–";

// Numbers by size and before words; gaps last, whichever way the column is sorted.
function compare(a, b, sign) {
  if (gap(a) || gap(b)) return gap(a) - gap(b);
  const [left, right] = [Number(a), Number(b)];
  if (isNaN(left) || isNaN(right)) return sign * (isNaN(left) - isNaN(right) || a.localeCompare(b));
  return sign * (left - right);
}

function sortBy(header) {
  const sign = header.getAttribute("aria-sort") === "ascending" ? -1 : 1;
  const body = header.closest("table").tBodies[0];
  const keyed = [...body.rows].map(row => [textOf(row.cells[header.cellIndex]), row]);
  keyed.sort(([a], [b]) => compare(a, b, sign));
  body.append(...keyed.map(([, row]) => row));
  for (const other of header.parentNode.cells) other.setAttribute("aria-sort", "none");
  header.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
}

async function copy(button) {
  const code = button.parentNode.querySelector("code");
  getSelection().selectAllChildren(code);
  try {
    await navigator.clipboard.writeText(code.textContent);
    button.textContent = "copied";
  } catch { // Where the page may not write the clipboard, the keyboard can.
    button.textContent = "selected";
  }
}

document.addEventListener("click", event => {
  const button = event.target.closest("button");
  if (button?.matches("th button")) sortBy(button.closest("th"));
  if (button?.matches(".copy")) copy(button);
});
