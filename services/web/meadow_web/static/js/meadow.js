// The page's scripts start here. Everything works without them; they make it live and quick.
import { startActions } from "./actions.js";
import { startCharts } from "./charts.js";
import { startHands } from "./hands.js";
import { startLive } from "./live.js";
import { startSuggestions } from "./suggest.js";
import { startTimes } from "./times.js";

startTimes();
startHands();
startCharts();
startActions();
startSuggestions();
startLive();
