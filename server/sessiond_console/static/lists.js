// Live lists: htmx loads the list again when the server says that it has changed. The connection is
// closed while the page is hidden, because a browser opens at most six connections to one host.

export function setUpLists() {
  for (const place of document.querySelectorAll("[data-pause-hidden]")) {
    const address = place.getAttribute("sse-connect");
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) disconnect(place);
      else connect(place, address);
    });
    place.addEventListener("htmx:sseClose", (event) => {
      if (event.detail.type === "message") place.querySelector("[data-denied]").hidden = false;
    });
    // While sessions are picked, the list is not loaded again: the new list would have no marks.
    place.addEventListener("htmx:beforeRequest", (event) => {
      if (place.querySelector("input[name=pick]:checked")) event.preventDefault();
    });
  }
}

function disconnect(place) {
  htmx.trigger(place, "htmx:beforeCleanupElement");
  place.removeAttribute("sse-connect");
}

function connect(place, address) {
  if (place.hasAttribute("sse-connect")) return;
  place.setAttribute("sse-connect", address);
  htmx.process(place);
}
