// The page's half of a Session: sends events, applies changes. Served by extensions/pages.py.
(() => {
  "use strict";
  const key = document.currentScript.dataset.key;
  const place = (location.protocol === "https:" ? "wss://" : "ws://") + location.host;
  const find = (id) => document.getElementById(id);
  let socket = null;
  let failures = 0;

  const changes = {
    text(id, text) { find(id).textContent = text; },
    style(id, name, value) { find(id).style.setProperty(name, value); },
    attribute(id, name, value) {
      const element = find(id);
      if (value === null) element.removeAttribute(name);
      else element.setAttribute(name, value);
      if (name === "value" && "value" in element) element.value = value ?? "";
    },
    append(id, html) { find(id).insertAdjacentHTML("beforeend", html); },
    remove(id) { find(id).remove(); },
    alert(text) { setTimeout(() => alert(text)); },
    redirect(url) { location.assign(url); },
    bind(id, event, number) {
      find(id).addEventListener(event, (fired) => {
        if (event === "submit") fired.preventDefault();
        const from = fired.target;
        const value = from && typeof from.value === "string" ? from.value : "";
        if (socket && socket.readyState === WebSocket.OPEN) {
          socket.send(JSON.stringify({ number, value, key: typeof fired.key === "string" ? fired.key : "" }));
        }
      });
    },
  };

  const bound = new Set();
  function apply(list) {
    for (const [name, ...values] of list) {
      if (name === "bind") {
        if (bound.has(values[2])) continue;
        bound.add(values[2]);
      }
      try {
        changes[name](...values);
      } catch (error) {
        console.warn("toolips_udp: a change did not apply", name, values[0], error);
      }
    }
  }

  function connect() {
    socket = new WebSocket(place + "/_toolips_udp/page");
    socket.onopen = () => { failures = 0; socket.send(JSON.stringify({ key })); };
    socket.onmessage = (message) => apply(JSON.parse(message.data));
    socket.onclose = (closed) => {
      if (closed.code === 1008 || failures > 5) return;
      failures += 1;
      setTimeout(connect, 200 * 2 ** failures);
    };
  }
  if (document.readyState === "loading") addEventListener("DOMContentLoaded", connect);
  else connect();
})();
