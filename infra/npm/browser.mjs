// Unpacks the headless Chromium of @sparticuz/chromium, its libraries and a font into node_modules/.chromium: no root, no download of its own.
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { inflate } from "@sparticuz/chromium";

const modules = join(dirname(fileURLToPath(import.meta.url)), "node_modules");
const target = (process.env.TMPDIR = join(modules, ".chromium")); // where inflate() writes
const packed = join(modules, "@sparticuz/chromium/bin");
await Promise.all(readdirSync(packed).map((name) => inflate(join(packed, name))));

// Its font settings name folders of another machine.
const settings = join(target, "fonts/fonts.conf");
writeFileSync(settings, readFileSync(settings, "utf8").replace("<dir>/tmp/fonts</dir>", `<dir>${target}/fonts</dir><dir>/usr/share/fonts</dir>`));
