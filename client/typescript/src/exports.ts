import { FileExtractor } from "./attachments.js";
import { NewFile } from "./exports/files.js";
import type { ExportRecord, Progress } from "./exports/records.js";
import { Collection, Document, line } from "./exports/writer.js";
import type { Session as SessionProto } from "./gen/sessiond/v1/session.js";
import { LazyList } from "./lazy.js";
import { sessionMethods } from "./methods.js";
import { CALL_OPTIONS, type CallOptions, CHANGE_OPTIONS, type ChangeOptions } from "./options.js";
import { checkBoolean, checkFunction, checkKnown, checkText } from "./protocol/checks.js";
import { invalidField, shown, typeName } from "./protocol/invalid.js";
import type { JsonObject } from "./protocol/json.js";
import { RegenerationCalls } from "./regeneration.js";
import { requestIdOr } from "./requests/ids.js";
import {
  type ExportSource,
  importPieces,
  isDocument,
  REFUSED_PIECE,
  recordBatches,
} from "./transfer.js";
import { type SessionInfo, sessionOf } from "./types/session.js";

/**
 * Options of an export. `timeoutMs` is the timeout of reading the session without its messages, and
 * of looking up each asset. Reading the messages, and the contents of assets, has no timeout.
 */
export interface ExportOptions extends CallOptions {
  /**
   * Include the content of each asset that a message refers to. Without the contents, the project
   * that imports the session must have these assets already. Default: true.
   */
  readonly assets?: boolean | undefined;
}

/** Options of an export to a file. */
export interface ExportToOptions extends ExportOptions {
  /** "jsonl" (default) for the lines of exportLines, "json" for one document as in export. */
  readonly format?: "jsonl" | "json" | undefined;
  /** Is called from time to time. */
  readonly progress?: Progress | undefined;
}

/** Options of an import. `timeoutMs` covers all attempts. Default: no timeout. */
export interface ImportOptions extends ChangeOptions {
  /** Id of the new session, 1 to 1,024 characters, unique in the project. Default: the exported id. */
  readonly sessionId?: string | undefined;
  /** First upload the files inside the messages as assets, as in storeMessages. */
  readonly extractFiles?: boolean | number | undefined;
  /** Is called from time to time. */
  readonly progress?: Progress | undefined;
}

const EXPORT: ReadonlySet<string> = new Set([...CALL_OPTIONS, "assets"]);
const EXPORT_TO: ReadonlySet<string> = new Set([...EXPORT, "format", "progress"]);
const IMPORT: ReadonlySet<string> = new Set([
  ...CHANGE_OPTIONS,
  "sessionId",
  "extractFiles",
  "progress",
]);

/** The calls that export and import whole sessions; `client.sessions` has them. */
export abstract class ExportCalls extends RegenerationCalls {
  /**
   * Return a session with its tasks, bookmarks, messages and assets as one object.
   *
   * JSON.stringify accepts the object, and importSession creates an equal session from it; the
   * Python client reads and writes the same form, with the names of the protos. The whole session is
   * held in memory; exportLines and exportTo need only bounded memory.
   *
   * The session, its state, tasks, bookmarks and messages are exported as they were at one moment,
   * however long the export takes. The export does not contain fields that no other session can
   * have (etag, origin), nor fields that are derived from the rest (summary, sizes, token counts).
   *
   * @returns `{ version, session, tasks, bookmarks, messages, assets }`.
   * @throws SessionNotFound if there is no such session, or if it is deleted during the export.
   * @throws HistoryRewound if the session is rewound during the export, so that messages are
   *   missing; export it again.
   * @throws Unimplemented if the server is older than its ExportSession call.
   */
  async export(sessionId: string, options: ExportOptions = {}): Promise<JsonObject> {
    checkExport(sessionId, options, EXPORT, "export");
    const collection = new Collection();
    const selection = { assets: options.assets ?? true };
    for await (const batch of recordBatches(this.connection, sessionId, selection, options)) {
      for (const record of batch) collection.take(record);
    }
    return collection.result();
  }

  /**
   * Export a session as lines of JSON, created during the iteration, in bounded memory.
   *
   * Each line has a "kind". The first line is the "export" line, with the version and the session.
   * It is followed by a line for each "task", "bookmark" and "message". The last line is the "end"
   * line with the number of each kind, which shows that nothing is cut off. The "asset" lines of an
   * asset precede the first message that refers to it; each holds a piece of the content.
   *
   * @returns a lazy list of lines with their line ends. Iterating throws what export throws.
   */
  exportLines(sessionId: string, options: ExportOptions = {}): LazyList<string> {
    checkExport(sessionId, options, EXPORT, "exportLines");
    const { connection } = this;
    const selection = { assets: options.assets ?? true };
    return new LazyList(async function* lines(stop) {
      const batches = recordBatches(connection, sessionId, selection, options, stop);
      for await (const batch of batches) yield batch.map(line);
    });
  }

  /**
   * Export a session to a file, in bounded memory. An existing file is replaced when the export is
   * complete.
   *
   * @returns the session as exported.
   * @throws SessiondError as export does; an error of the file system if the file cannot be written.
   */
  async exportTo(
    sessionId: string,
    path: string,
    options: ExportToOptions = {},
  ): Promise<SessionInfo> {
    checkExport(sessionId, options, EXPORT_TO, "exportTo");
    const { format = "jsonl", assets = true, progress } = options;
    checkText(path, "path");
    if (path === "") throw invalidField("path", "is empty");
    if (format !== "jsonl" && format !== "json") {
      throw invalidField("format", `is ${shown(format)}; it must be one of jsonl, json`);
    }
    if (progress !== undefined) checkFunction(progress, "progress");
    const document = new Document();
    const textOf =
      format === "jsonl" ? line : (record: ExportRecord): string => document.text(record);
    let session: SessionProto | undefined;
    const selection = {
      assets,
      assetsLast: format === "json",
      progress,
      onHeader: (found: SessionProto) => {
        session = found;
      },
    };
    const file = await NewFile.create(path);
    try {
      for await (const batch of recordBatches(this.connection, sessionId, selection, options)) {
        await file.write(batch.map(textOf).join(""));
      }
      await file.complete();
    } catch (error) {
      await file.discard();
      throw error;
    }
    return sessionOf(session as SessionProto);
  }

  /**
   * Create a session from an export, here or on another server, all or nothing.
   *
   * Exporting the new session again gives an equal export. Lines of JSON are read and sent in
   * bounded memory; a JSON document is read as a whole. The assets are uploaded first, large ones
   * through a temporary file. If the import fails, the server removes them like any asset without
   * references.
   *
   * @param source - the object of export, the path of a file from exportTo in either form (also of
   * the Python client), or an iterable of lines. After a broken connection, an object, a path or an
   * array is read again; other sources can be read only once, so the error is thrown.
   * @throws SessionAlreadyExists if the id is taken.
   * @throws InvalidField if the source is not a complete export of a known version. The error names
   *   the line, or the path in the document.
   * @throws AssetNotFound if the export was made without assets, and the project lacks one of them.
   * @throws SessiondError as storeMessages does for the messages, and assets.upload for the assets.
   */
  async importSession(source: ExportSource, options: ImportOptions = {}): Promise<SessionInfo> {
    checkKnown(options, IMPORT, "importSession");
    checkSource(source);
    const { sessionId, progress } = options;
    if (sessionId !== undefined) checkText(sessionId, "sessionId");
    if (sessionId === "") {
      throw invalidField("sessionId", "is empty; leave it out to keep the exported one");
    }
    if (progress !== undefined) checkFunction(progress, "progress");
    const { connection } = this;
    const extractor = new FileExtractor(connection, options.extractFiles);
    // All attempts use the same requestId, so that a retry does not collide with the session that
    // an earlier attempt created.
    const importing = {
      sessionId,
      progress,
      extractor,
      requestId: requestIdOr(options.requestId),
    };
    const session = await connection.upload(
      sessionMethods.importSession,
      () => importPieces(connection, source, importing),
      options,
      {
        // A source of any other type is consumed by the first attempt.
        isRepeatable: typeof source === "string" || Array.isArray(source) || isDocument(source),
        refusal: REFUSED_PIECE,
      },
    );
    return sessionOf(session);
  }
}

function checkExport(
  sessionId: string,
  options: ExportOptions,
  known: ReadonlySet<string>,
  call: string,
): void {
  checkKnown(options, known, call);
  checkText(sessionId, "sessionId");
  checkBoolean(options.assets, "assets");
}

/** Refuse a value that cannot be a source, such as an export's text instead of its path. */
function checkSource(source: unknown): void {
  if (typeof source === "string") {
    if (/^[\ufeff\s]*\{/.test(source)) {
      throw invalidField(
        "source",
        "is the text of an export, not the path of its file; give its lines, or JSON.parse(text)" +
          " for one JSON document",
      );
    }
    if (source === "") throw invalidField("source", "is an empty path");
    return;
  }
  if (typeof source !== "object" || source === null || ArrayBuffer.isView(source)) {
    throw invalidField(
      "source",
      `must be a path, the object of export(), or lines, not ${typeName(source)}`,
    );
  }
}
