// Starts the modules of a page. Pages work without them: links and forms do all that is not live.
import { setUpKeys } from "./keys.js";
import { setUpLists } from "./lists.js";
import { setUpLive } from "./live.js";
import { setUpPage } from "./page.js";

setUpPage();
setUpKeys();
setUpLists();
setUpLive();
