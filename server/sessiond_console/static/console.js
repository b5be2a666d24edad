// Starts the modules of a page. Pages work without them, except for live updates: links and forms
// do all the rest.
import { setUpKeys } from "./keys.js";
import { setUpLists } from "./lists.js";
import { setUpLive } from "./live.js";
import { setUpPage } from "./page.js";

setUpPage();
setUpKeys();
setUpLists();
setUpLive();
