// Health, moving.
import { each, refresh } from "./fresh.js";

each(2, () => refresh());
