// Unpacks the headless Chromium of @sparticuz/chromium, its libraries and a font into node_modules/.chromium: no root, no download of its own.
import { readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { inflate } from "@sparticuz/chromium";

const modules = join(dirname(fileURLToPath(import.meta.url)), "node_modules");
process.env.TMPDIR = join(modules, ".chromium"); // where inflate() writes
const packed = join(modules, "@sparticuz/chromium/bin");
await Promise.all(readdirSync(packed).map((name) => inflate(join(packed, name))));
