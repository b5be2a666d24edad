// Starts the modules of a page. Pages work without them: links and forms do all that is not live.
import { setUpKeys } from "./keys.js";
import { setUpPage } from "./page.js";

setUpPage();
setUpKeys();
