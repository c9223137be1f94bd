// A client of npm's enet (an older C ENet compiled to JavaScript). usage: node enet_client.js PORT
// Says "ok" when messages of several sizes and both kinds came back and the disconnect was answered.
const enet = require("enet");
const port = Number(process.argv[2]);
const sizes = [1, 5, 1300, 1400, 20000, 1 << 20];
setTimeout(() => { console.log("timeout"); process.exit(1); }, 20000);

enet.createClient({ peers: 1, channels: 8, down: 0, up: 0 }, (err, host) => {
  if (err) throw err;
  host.connect(new enet.Address("127.0.0.1", port), 8, 1337, (err, peer) => {
    if (err) { console.log("no connection"); process.exit(1); }
    let at = 0;
    const body = (n) => Buffer.alloc(n).map((_, i) => (i * 7 + n) & 255);
    const next = () => {
      if (at === sizes.length + 2) return peer.disconnect(21);
      const flags = at < sizes.length ? enet.PACKET_FLAG.RELIABLE : at === sizes.length ? 0 : enet.PACKET_FLAG.UNSEQUENCED;
      const n = at < sizes.length ? sizes[at] : 400 + at;
      peer.send(at % 8, new enet.Packet(Buffer.from(body(n)), flags));
    };
    peer.on("message", (packet, channel) => {
      const n = at < sizes.length ? sizes[at] : 400 + at;
      if (channel !== at % 8 || !Buffer.from(packet.data()).equals(Buffer.from(body(n)))) {
        console.log(`echo ${at} differs`);
        process.exit(1);
      }
      at++;
      next();
    });
    peer.on("disconnect", () => { console.log("ok"); process.exit(0); });
    next();
  });
  host.start(10);
});
