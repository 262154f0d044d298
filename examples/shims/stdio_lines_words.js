// Stdio, `frames: lines`: a JSON object a line, bytes in base64.
const lines = require("node:readline").createInterface({ input: process.stdin });

lines.on("line", (line) => {
  const { task } = JSON.parse(line); // or { enter }, or { leave }
  let ok = null;
  if (task) {
    const words = Buffer.from(task.input ?? "", "base64").toString().split(/\s+/).filter(Boolean);
    ok = Buffer.from(String(words.length)).toString("base64");
  }
  console.log(JSON.stringify({ ok }));
});
