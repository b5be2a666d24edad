// Generates src/gen from ../../protos, and src/errors/reasons.ts from the enum ErrorReason.
//
//   node scripts/generate.mjs           writes the files
//   node scripts/generate.mjs --check   fails if they are not what the protos say
//
// protoc is the pinned one of `make protos` (../../.venv-protos), the plugin that of package.json.

import { execFileSync } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, relative, sep } from "node:path";
import { fileURLToPath } from "node:url";
import { reasonsModule } from "./reasons.mjs";

const PACKAGE = dirname(dirname(fileURLToPath(import.meta.url)));
const ROOT = join(PACKAGE, "..", "..");
const PROTOS = join(ROOT, "protos");
const GEN = join(PACKAGE, "src", "gen");
const REASONS = join(PACKAGE, "src", "errors", "reasons.ts");

const OPTIONS = [
  "env=both", // Uint8Array for bytes
  "esModuleInterop=true",
  "forceLong=number", // throws beyond 2^53 instead of rounding
  "importSuffix=.js",
  "oneof=unions-value",
  "outputJsonMethods=false",
  "outputServices=generic-definitions",
  "unrecognizedEnum=false",
  "useDate=false", // Date has no microseconds
  "useOptionals=messages",
];

function filesBelow(directory, suffix) {
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith(suffix))
    .map((entry) => relative(directory, join(entry.parentPath, entry.name)).split(sep).join("/"))
    .sort();
}

function generate(target) {
  const python = join(ROOT, ".venv-protos", "bin", "python");
  if (!existsSync(python)) {
    throw new Error("protoc is not here: `make protos` in the repository's root installs it");
  }
  const include = execFileSync(
    python,
    ["-c", "from importlib.resources import files; print(files('grpc_tools') / '_proto')"],
    { encoding: "utf8" },
  ).trim();
  execFileSync(
    python,
    [
      "-m",
      "grpc_tools.protoc",
      `--proto_path=${PROTOS}`,
      `--proto_path=${include}`,
      `--plugin=protoc-gen-ts_proto=${join(PACKAGE, "node_modules", ".bin", "protoc-gen-ts_proto")}`,
      `--ts_proto_out=${target}`,
      `--ts_proto_opt=${OPTIONS.join(",")}`,
      ...filesBelow(PROTOS, ".proto"),
    ],
    { stdio: "inherit" },
  );
}

function same(one, other) {
  const [left, right] = [filesBelow(one, ".ts"), filesBelow(other, ".ts")];
  return (
    left.join() === right.join() &&
    left.every(
      (file) => readFileSync(join(one, file), "utf8") === readFileSync(join(other, file), "utf8"),
    )
  );
}

const reasons = reasonsModule(
  readFileSync(join(PROTOS, "sessiond", "v1", "error_reason.proto"), "utf8"),
);
if (process.argv.includes("--check")) {
  const directory = mkdtempSync(join(tmpdir(), "sessiond-gen-"));
  try {
    generate(directory);
    if (!same(directory, GEN) || readFileSync(REASONS, "utf8") !== reasons) {
      console.error("src/gen or src/errors/reasons.ts is out of date: run `make ts-protos`");
      process.exitCode = 1;
    }
  } finally {
    rmSync(directory, { recursive: true });
  }
} else {
  for (const file of existsSync(GEN) ? filesBelow(GEN, ".ts") : []) rmSync(join(GEN, file));
  mkdirSync(GEN, { recursive: true });
  generate(GEN);
  writeFileSync(REASONS, reasons);
}
