// Keeps a server that has no setting for its address on loopback.
const { Server } = require("node:net");
const { listen } = Server.prototype;
Server.prototype.listen = function (where, ...rest) {
  return typeof where === "object"
    ? listen.call(this, { ...where, host: "127.0.0.1" }, ...rest)
    : listen.call(this, where, "127.0.0.1", ...rest.filter((one) => typeof one === "function"));
};
