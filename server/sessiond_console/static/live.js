// The live tail of a transcript. A page keeps one EventSource, which is closed while the page is
// hidden. Each new EventSource asks for the messages after the last seq of the page, so that no
// message is missed or shown twice.

const RETRY_MS = 1000;
const MAX_RETRY_MS = 15000;
const MAX_SHOWN = 2000;

export function setUpLive() {
  const place = document.getElementById("live");
  if (place) new Tail(place).start();
}

class Tail {
  constructor(place) {
    this.url = place.dataset.live;
    this.lastSeq = Number(place.dataset.after);
    this.epoch = Number(place.dataset.epoch);
    this.messages = document.getElementById("messages");
    this.answers = document.getElementById("answers");
    this.status = document.getElementById("live-status");
    this.button = place.querySelector("[data-follow]");
    this.retryMs = RETRY_MS;
    this.source = null;
    this.timer = 0;
    // The time of day at which the connection to the console was lost; "" while it is connected.
    this.lostAt = "";
    // Whether all messages so far have arrived, and further ones will arrive at once.
    this.live = false;
    this.gone = false;
    this.frame = 0;
  }

  start() {
    this.button.hidden = false;
    this.button.addEventListener("click", () => this.follow(this.button.ariaPressed !== "true"));
    // Scrolling up ends the following; scrolling to the end begins it again. The listener must not
    // scroll by itself, because that would cause another scroll event.
    document.addEventListener("scroll", () => this.show(atEnd()), { passive: true });
    document.addEventListener("visibilitychange", () => (document.hidden ? this.close() : this.open()));
    window.addEventListener("pagehide", () => this.close());
    window.addEventListener("pageshow", () => document.hidden || this.open());
    this.follow(location.hash === "#end" || atEnd());
    this.open();
  }

  follow(on) {
    this.show(on);
    this.scroll();
  }

  show(on) {
    this.button.ariaPressed = String(on);
    this.button.textContent = on ? "Following" : "Follow";
  }

  open() {
    if (this.source || this.gone) return;
    clearTimeout(this.timer);
    this.live = false;
    const source = new EventSource(`${this.url}?after=${this.lastSeq}&epoch=${this.epoch}`);
    this.source = source;
    source.onopen = () => {
      this.retryMs = RETRY_MS;
      // The new connection sends the text so far again.
      this.answers.replaceChildren();
      this.lostAt = "";
    };
    // The browser itself would reconnect after a broken connection, but not after an HTTP error.
    source.onerror = () => this.retry(source);
    const on = (name, act) =>
      source.addEventListener(name, (event) => this.source === source && act(JSON.parse(event.data)));
    on("message", (data) => this.add(data));
    on("delta", ({ turn, kind, text }) => this.extend(turn, kind, text));
    on("answer", (data) => this.replace(data));
    on("answered", ({ turn }) => this.answer(turn, false)?.remove());
    on("turn", ({ turn, type }) => this.turn(turn, type));
    on("rewound", ({ last_seq, epoch }) => this.rewind(last_seq, epoch));
    on("reload", () => location.reload());
    on("session", () => this.say());
    on("cut", ({ since }) => {
      this.live = false;
      this.say(`Cut off from the server since ${since}; reconnecting.`);
    });
    on("live", () => {
      this.live = true;
      this.say();
    });
    on("gone", () => this.end("The session is deleted or has expired."));
    on("denied", () => this.end("You are signed out: the key is revoked, or the login has ended. Sign in again."));
  }

  close() {
    clearTimeout(this.timer);
    this.source?.close();
    this.source = null;
  }

  retry(source) {
    if (this.source !== source) return;
    this.close();
    this.lostAt ||= `${new Date().toISOString().slice(11, 19)} UTC`;
    this.say(`Cut off from the console since ${this.lostAt}; reconnecting.`);
    this.timer = setTimeout(() => document.hidden || this.open(), this.retryMs);
    this.retryMs = Math.min(2 * this.retryMs, MAX_RETRY_MS);
  }

  end(text) {
    this.gone = true;
    this.close();
    this.say(text);
  }

  add({ seq, html, turn }) {
    if (seq <= this.lastSeq) return;
    this.lastSeq = seq;
    if (turn) this.answer(turn, false)?.remove();
    this.messages.querySelector(":scope > .empty")?.remove();
    const template = document.createElement("template");
    template.innerHTML = html;
    this.messages.append(template.content);
    this.prune();
    this.say();
    this.scroll();
  }

  rewind(lastSeq, epoch) {
    this.epoch = epoch;
    for (const one of this.messages.querySelectorAll("article[data-seq]")) {
      if (Number(one.dataset.seq) > lastSeq) one.remove();
    }
    this.lastSeq = Math.min(this.lastSeq, lastSeq);
    this.answers.replaceChildren();
    this.say(`The session was rewound to seq ${lastSeq}.`);
  }

  answer(turn, make = true) {
    let found = [...this.answers.children].find((one) => one.dataset.turn === turn);
    if (!found && make) {
      found = document.createElement("div");
      found.className = "answer";
      found.dataset.turn = turn;
      for (const kind of ["reasoning", "answer"]) {
        const part = document.createElement("div");
        part.dataset.kind = kind;
        if (kind === "reasoning") part.className = "reasoning";
        found.append(part);
      }
      this.answers.append(found);
    }
    return found;
  }

  extend(turn, kind, text) {
    this.answer(turn).querySelector(`[data-kind="${kind}"]`).append(text);
    this.scroll();
  }

  replace({ turn, answer, reasoning }) {
    const place = this.answer(turn);
    place.querySelector('[data-kind="answer"]').textContent = answer;
    place.querySelector('[data-kind="reasoning"]').textContent = reasoning;
    this.scroll();
  }

  turn(turn, type) {
    if (type === "assistant.turn_end") this.answer(turn, false)?.remove();
    if (type === "assistant.turn_start") this.say("The model works.");
    if (type === "session.error") this.say("The turn failed: see Turns.");
    if (type === "session.idle") document.querySelector(".open-turns")?.remove();
  }

  say(text = "") {
    if (text || this.live) this.status.textContent = text || `Live, at seq ${this.lastSeq}.`;
    const head = document.getElementById("last-seq");
    if (head && this.lastSeq) head.textContent = this.lastSeq.toLocaleString("en").replaceAll(",", "\u202f");
  }

  // A page that follows for days must not grow for ever.
  prune() {
    const all = this.messages.querySelectorAll(":scope > article[data-seq]");
    if (all.length <= MAX_SHOWN) return;
    all[0].remove();
    for (const one of this.messages.querySelectorAll(":scope > .earlier")) one.remove();
    const link = document.createElement("a");
    link.href = `?before=${all[1].dataset.seq}`;
    link.textContent = "Earlier messages";
    const place = document.createElement("p");
    place.className = "earlier";
    place.append(link);
    this.messages.prepend(place);
  }

  // Scrolls once per frame, however many messages have arrived since the last frame.
  scroll() {
    if (this.frame || this.button.ariaPressed !== "true") return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      document.getElementById("end").scrollIntoView({ block: "end" });
    });
  }
}

function atEnd() {
  return document.getElementById("end").getBoundingClientRect().top <= window.innerHeight + 40;
}
