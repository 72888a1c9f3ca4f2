// Reads a picture as Pillow does, runs the ONNX graph, and shows classes and the class activation map.

const settings = JSON.parse(document.getElementById("settings").textContent);
const element = (id) => document.getElementById(id);
const TOP = 5, PRECISION = 2 ** 22, OPACITY = 0.6;
const HEAT = [[0, [0, 0, 130]], [0.35, [0, 190, 235]], [0.65, [250, 225, 30]], [1, [190, 0, 0]]];

// Pillow's bicubic filter (a = -0.5), antialiased: the weights of each output pixel, as integers.
function weightsOf(inputSize, from, to, outputSize) {
  const scale = (to - from) / outputSize, stretch = Math.max(scale, 1), support = 2 * stretch;
  const cubic = (x) => {
    x = Math.abs(x);
    if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
    return x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0;
  };
  return Array.from({length: outputSize}, (_, pixel) => {
    const center = from + (pixel + 0.5) * scale;
    const first = Math.max(Math.trunc(center - support + 0.5), 0);
    const count = Math.min(Math.trunc(center + support + 0.5), inputSize) - first;
    const weights = Array.from({length: count}, (_, i) => cubic((i + first - center + 0.5) / stretch));
    const sum = weights.reduce((a, b) => a + b, 0);
    return [first, weights.map((w) => Math.trunc((w / sum) * PRECISION + (w < 0 ? -0.5 : 0.5)))];
  });
}

const clip = (sum) => Math.min(Math.max(Math.floor(sum / PRECISION + 0.5), 0), 255);

// Resizes one axis of bytes [rows, columns, channels]; axis 1 is columns.
function resizeAxis(bytes, [rows, columns, channels], axis, weights) {
  const shape = axis === 1 ? [rows, weights.length, channels] : [weights.length, columns, channels];
  const out = new Uint8Array(shape[0] * shape[1] * channels);
  for (let y = 0, at = 0; y < shape[0]; y++) {
    for (let x = 0; x < shape[1]; x++) {
      const [first, taps] = weights[axis === 1 ? x : y];
      for (let c = 0; c < channels; c++, at++) {
        let sum = 0;
        for (let i = 0; i < taps.length; i++) {
          const [row, column] = axis === 1 ? [y, first + i] : [first + i, x];
          sum += taps[i] * bytes[(row * columns + column) * channels + c];
        }
        out[at] = clip(sum);
      }
    }
  }
  return [out, shape];
}

// Bytes [rows, columns, channels] -> [size, size, channels], as `jaxnets.data.images.resize_image`.
function resize(bytes, shape, {size, method, crop, pillow}) {
  const [rows, columns] = shape;
  if (rows === size && columns === size && crop === 1) return bytes;
  let left = 0, top = 0;
  if (method === "crop") {
    const side = Math.min(rows, columns) * crop;
    [left, top] = [(columns - side) / 2, (rows - side) / 2];
  }
  // Pillow stores the box in single precision.
  const box = [[top, rows - top], [left, columns - left]].map((ends) => ends.map(Math.fround));
  // From version 13 on, Pillow begins with the rows if they shrink by more than twice as much.
  const rowsFirst = pillow >= 13 && rows > size && rows - size > 2 * (columns - size);
  for (const axis of rowsFirst ? [0, 1] : [1, 0]) {
    const [from, to] = box[axis];
    if (shape[axis] === size && from === 0 && to === size) continue;
    [bytes, shape] = resizeAxis(bytes, shape, axis, weightsOf(shape[axis], from, to, size));
  }
  return bytes;
}

// The pixels of an image on white, uint8[rows, columns, 3], turned as its EXIF data say.
async function decode(blob) {
  const bitmap = await createImageBitmap(blob, {imageOrientation: "from-image", colorSpaceConversion: "none"});
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d", {willReadFrequently: true});
  context.fillStyle = "white";
  context.fillRect(0, 0, bitmap.width, bitmap.height);
  context.drawImage(bitmap, 0, 0);
  const {data} = context.getImageData(0, 0, bitmap.width, bitmap.height);
  const pixels = new Uint8Array((data.length / 4) * 3);
  for (let i = 0, j = 0; i < data.length; i += 4) {
    for (let c = 0; c < 3; c++) pixels[j++] = data[i + c];
  }
  return [pixels, [bitmap.height, bitmap.width, 3]];
}

// ITU-R 601 luma, as Pillow's mode L.
function toGrey(pixels) {
  const grey = new Uint8Array(pixels.length / 3);
  for (let i = 0; i < grey.length; i++) {
    const [red, green, blue] = pixels.subarray(3 * i, 3 * i + 3);
    grey[i] = (19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16;
  }
  return grey;
}

// The class activation map of a class, at most 1: the positive part of its evidence.
function mapOf(maps, [, rows, columns, classes], chosen) {
  const map = new Float32Array(rows * columns);
  for (let i = 0; i < map.length; i++) map[i] = Math.max(maps[i * classes + chosen], 0);
  const largest = map.reduce((a, b) => Math.max(a, b), 0) || 1;
  return map.map((value) => value / largest);
}

function colourOf(value, channel) {
  const next = Math.max(HEAT.findIndex(([stop]) => value <= stop), 1);
  const [[low, from], [high, to]] = [HEAT[next - 1], HEAT[next]];
  return from[channel] + ((value - low) / (high - low)) * (to[channel] - from[channel]);
}

function draw(pixels, map, [rows, columns], size, channels) {
  const canvas = element("picture");
  canvas.width = canvas.height = size;
  const image = new ImageData(size, size);
  const at = (y, x) => map[y * columns + x];
  const place = (pixel, count) => {
    const position = Math.min(Math.max(((pixel + 0.5) * count) / size - 0.5, 0), count - 1);
    return [Math.floor(position), Math.min(Math.floor(position) + 1, count - 1), position % 1];
  };
  for (let y = 0; y < size; y++) {
    const [up, down, v] = place(y, rows);
    for (let x = 0; x < size; x++) {
      const [left, right, u] = place(x, columns), pixel = y * size + x;
      const value = map
        ? (1 - v) * ((1 - u) * at(up, left) + u * at(up, right)) + v * ((1 - u) * at(down, left) + u * at(down, right))
        : 0;
      const opacity = OPACITY * Math.sqrt(value);
      for (let c = 0; c < 3; c++) {
        const own = pixels[pixel * channels + (channels === 3 ? c : 0)];
        image.data[4 * pixel + c] = Math.round(own * (1 - opacity) + (map ? colourOf(value, c) : 0) * opacity);
      }
      image.data[4 * pixel + 3] = 255;
    }
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

function listClasses(probabilities) {
  const order = [...probabilities.keys()].sort((a, b) => probabilities[b] - probabilities[a]).slice(0, TOP);
  const table = document.createElement("table");
  const caption = table.createCaption();
  caption.textContent = settings.calibrated
    ? "Classes with calibrated confidences" : "Classes with confidences (uncalibrated)";
  for (const index of order) {
    const row = table.insertRow(), head = document.createElement("th");
    head.scope = "row";
    head.textContent = settings.classes[index];
    row.append(head);
    const bar = row.insertCell(), number = row.insertCell(), strip = document.createElement("span");
    bar.className = "bar";
    strip.style.width = `${100 * probabilities[index]}%`;
    bar.append(strip);
    number.className = "number";
    number.textContent = `${(100 * probabilities[index]).toFixed(1)} %`;
  }
  element("classes").replaceChildren(table);
  return order[0];
}

// The runtime is embedded in the page as base64, or lies beside it.
async function bytesOf(name) {
  const embedded = element(name);
  if (embedded) return Uint8Array.from(atob(embedded.textContent.trim()), (c) => c.charCodeAt(0));
  const response = await fetch(settings.files[name]);
  if (!response.ok) throw new Error(`${settings.files[name]}: HTTP status ${response.status}`);
  return new Uint8Array(await response.arrayBuffer());
}

async function load() {
  if (typeof WebAssembly === "undefined") throw new Error("this browser has no WebAssembly");
  const {channels, size} = settings;
  const blob = new Blob([await bytesOf("runtime")], {type: "text/javascript"});
  const runtime = await import(URL.createObjectURL(blob));
  runtime.env.wasm.numThreads = 1; // more need headers that a file has not
  runtime.env.wasm.wasmBinary = await bytesOf("wasm");
  const session = await runtime.InferenceSession.create(await bytesOf("model"), {executionProviders: ["wasm"]});
  return async (pixels) => {
    const images = new runtime.Tensor("uint8", pixels, [1, size, size, channels]);
    const {probabilities, maps} = await session.run({images});
    return {
      probabilities: Array.from(probabilities.data),
      maps: maps && {data: Array.from(maps.data), dims: maps.dims},
    };
  };
}

const network = load();
const status = (text) => { element("status").textContent = text; };
let shown = null, requests = 0;

async function classify(pixels) {
  return (await network)(pixels);
}

async function read(blob) {
  const [pixels, shape] = await decode(blob), {channels} = settings;
  const [bytes, count] = channels === 1 ? [toGrey(pixels), 1] : [pixels, 3];
  return resize(bytes, [shape[0], shape[1], count], settings);
}

function redraw() {
  const pressed = element("toggle").getAttribute("aria-pressed") === "true";
  draw(shown.pixels, pressed ? shown.map : null, shown.grid, settings.size, settings.channels);
}

async function show(blob) {
  const request = ++requests;
  try {
    status("The picture is read …");
    const pixels = await read(blob);
    const {probabilities, maps} = await classify(pixels);
    if (request < requests) return; // another picture was chosen meanwhile
    element("result").hidden = false;
    const chosen = listClasses(probabilities);
    const map = maps ? mapOf(maps.data, maps.dims, chosen) : null;
    shown = {pixels, map, grid: maps ? maps.dims.slice(1, 3) : [1, 1]};
    element("toggle").hidden = !maps;
    element("about-map").textContent = maps
      ? `Grad-CAM of ${settings.classes[chosen]}, from 0 to its maximum.` : settings.no_map;
    redraw();
    status(`${settings.classes[chosen]}, ${(100 * probabilities[chosen]).toFixed(1)} %`);
  } catch (error) {
    if (request < requests) return;
    element("result").hidden = true; // it is that of another picture
    status(`The picture cannot be read: ${error.message} Browsers read JPEG, PNG and WebP files.`);
  }
}

element("file").addEventListener("change", ({target}) => {
  const [file] = target.files;
  target.value = ""; // so that the same file can be chosen again
  if (file) show(file);
});
element("toggle").addEventListener("click", ({target}) => {
  target.setAttribute("aria-pressed", String(target.getAttribute("aria-pressed") !== "true"));
  redraw();
});
for (const type of ["dragover", "dragleave", "drop"]) {
  // Anywhere: a browser would leave the page for a picture that is dropped beside the box.
  document.addEventListener(type, (event) => {
    event.preventDefault();
    element("drop").classList.toggle("over", type === "dragover");
    if (type === "drop" && event.dataTransfer.files[0]) show(event.dataTransfer.files[0]);
  });
}

const [video, shoot, camera] = [element("video"), element("shoot"), element("camera")];

async function openCamera() {
  camera.disabled = true; // a second request would leave the first camera on
  try {
    video.srcObject = await navigator.mediaDevices.getUserMedia({video: {facingMode: "environment"}});
    await video.play();
    camera.textContent = "Close the camera";
    video.hidden = shoot.hidden = false;
  } catch (error) {
    status(`The camera cannot be used: ${error.message}`);
  }
  camera.disabled = false;
  (shoot.hidden ? camera : shoot).focus();
}

function closeCamera() {
  for (const track of video.srcObject.getTracks()) track.stop();
  video.srcObject = null;
  video.hidden = shoot.hidden = true;
  camera.textContent = "Use the camera";
  camera.focus(); // the focus may have been on the hidden button
}

camera.hidden = !navigator.mediaDevices;
camera.addEventListener("click", () => (video.srcObject ? closeCamera() : openCamera()));
shoot.addEventListener("click", async () => {
  const canvas = new OffscreenCanvas(video.videoWidth, video.videoHeight);
  canvas.getContext("2d").drawImage(video, 0, 0);
  closeCamera();
  show(await canvas.convertToBlob({type: "image/png"}));
});

network.then(
  () => status("Ready."),
  (error) => status(
    location.protocol === "file:" && !element("model")
      ? "The network is too large to be part of this page. Run “python -m http.server” in this folder, and open http://localhost:8000."
      : `The network cannot be loaded: ${error.message}`,
  ),
);
window.jaxnets = {classify, read, resize, mapOf, settings, ready: network};
