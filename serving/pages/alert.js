// One alert: times as the reader has them, its forms in dialogs.
import { dialogs } from "./dialogs.js";
import { refresh } from "./fresh.js";

dialogs(document.getElementById("live"), () => refresh());
