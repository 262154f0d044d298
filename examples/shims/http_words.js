// Http: any web server. This one is Node.js, with nothing but its standard library.
const http = require("node:http");

const server = http.createServer((request, response) => {
  const chunks = [];
  request.on("data", (chunk) => chunks.push(chunk));
  request.on("end", () => {
    if (request.url === "/health") {
      response.end("ready");
    } else if (request.url === "/tasks") {
      const words = Buffer.concat(chunks).toString().split(/\s+/).filter(Boolean);
      response.end(String(words.length));
    } else {
      response.writeHead(404).end(); // it does not care for sessions
    }
  });
});

server.listen(process.env.FLAME_HTTP_SOCKET);
process.on("SIGTERM", () => process.exit(0));
