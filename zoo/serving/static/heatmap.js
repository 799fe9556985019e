// A map of numbers in [0, 1]: read by mouse, touch and arrow keys, and by a screen reader.

const dark = matchMedia("(prefers-color-scheme: dark)");
const painters = new WeakMap();

dark.addEventListener("change", () => {
  for (const canvas of document.querySelectorAll("canvas")) painters.get(canvas)?.();
});

// Draws `values[row][column]`; `tell(row, column)` says one of them in words, to `reading`.
export function heatmap(values, name, tell, reading) {
  const rows = values.length, columns = values[0]?.length ?? 0;
  const canvas = document.createElement("canvas");
  canvas.width = columns;
  canvas.height = rows;
  canvas.style.aspectRatio = `${columns} / ${rows}`;
  canvas.tabIndex = 0;
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `${name}, ${rows} by ${columns}; arrow keys read it`);
  const paint = () => {
    const context = canvas.getContext("2d");
    const image = context.createImageData(columns, rows);
    const [from, to] = dark.matches
      ? [[20, 24, 29], [255, 196, 87]]
      : [[255, 255, 255], [8, 69, 148]];
    values.flat().forEach((value, place) => {
      const share = Math.min(1, Math.max(0, value ?? 0));
      for (let i = 0; i < 3; i++) image.data[4 * place + i] = from[i] + share * (to[i] - from[i]);
      image.data[4 * place + 3] = 255;
    });
    context.putImageData(image, 0, 0);
  };
  let row = 0, column = 0;
  const read = () => {
    const words = tell(row, column);
    canvas.title = words;
    reading.textContent = words;
  };
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    const part = (value, count) => Math.min(count - 1, Math.max(0, Math.floor(value * count)));
    column = part((event.clientX - box.left) / box.width, columns);
    row = part((event.clientY - box.top) / box.height, rows);
    read();
  };
  canvas.addEventListener("pointermove", at);
  canvas.addEventListener("pointerdown", at);
  canvas.addEventListener("focus", read);
  canvas.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
    if (!(event.key in move)) return;
    event.preventDefault();
    row = Math.min(rows - 1, Math.max(0, row + move[event.key][0]));
    column = Math.min(columns - 1, Math.max(0, column + move[event.key][1]));
    read();
  });
  painters.set(canvas, paint);
  paint();
  return canvas;
}
