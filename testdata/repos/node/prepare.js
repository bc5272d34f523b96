require("fs").writeFileSync("prepared", String(require("is-number")("7")));
