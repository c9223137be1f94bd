// A client of npm's enet (an older C ENet compiled to JavaScript). usage: node enet_client.js PORT
// Says "ok" when messages of several sizes and all kinds came back and the disconnect was answered.
// An unreliable one may be lost (ENet's throttle does it by itself), so it is said again until it comes.
const enet = require("enet");
const port = Number(process.argv[2]);
const reliable = enet.PACKET_FLAG.RELIABLE;
const script = [[1, reliable], [5, reliable], [400, 0], [401, enet.PACKET_FLAG.UNSEQUENCED], [1300, reliable],
                [1400, reliable], [20000, reliable], [1 << 20, reliable]];
setTimeout(() => { console.log("timeout"); process.exit(1); }, 20000);

enet.createClient({ peers: 1, channels: 8, down: 0, up: 0 }, (err, host) => {
  if (err) throw err;
  host.connect(new enet.Address("127.0.0.1", port), 8, 1337, (err, peer) => {
    if (err) { console.log("no connection"); process.exit(1); }
    let at = 0;
    const body = (n) => Buffer.alloc(n).map((_, i) => (i * 7 + n) & 255);
    const say = () => {
      if (at === script.length) return peer.disconnect(21);
      const [size, flags] = script[at];
      peer.send(at % 8, new enet.Packet(body(size), flags));
      const saying = at;
      if (flags !== reliable) setTimeout(() => { if (at === saying) say(); }, 300);
    };
    peer.on("message", (packet, channel) => {
      const data = Buffer.from(packet.data());
      if (at > 0 && data.length === script[at - 1][0] && script[at - 1][1] !== reliable) return; // said twice
      if (channel !== at % 8 || !data.equals(body(script[at][0]))) {
        console.log(`echo ${at} differs`);
        process.exit(1);
      }
      at++;
      say();
    });
    peer.on("disconnect", () => { console.log("ok"); process.exit(0); });
    say();
  });
  host.start(10);
});
