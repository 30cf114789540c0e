/**
 * How a file is laid out. Line ends stay where the author put them (one blank line at most); what changes is
 * indentation, spaces and columns. Only white space moves, so the AST cannot change.
 *
 * - two spaces of indentation per brace, four more for a line that continues a field
 * - two spaces between fields on one line and before a comment
 * - where every line of a block holds one field, values stand in one column; `dilation` too, in runs of branches
 */
import { tokenMatcher } from "chevrotain";
import type { CstNode, IToken, TokenType } from "chevrotain";
import { marksOf } from "./marks.ts";
import type { Marks } from "./marks.ts";
import { Comma, LCurly, LParen, LSquare, Range, RCurly, RParen, RSquare } from "./tokens.ts";

type Piece = {
  readonly token: IToken;
  readonly comment: boolean;
  /** An opening brace whose closing one stands on the same line, and that closing one. */
  readonly inline: boolean;
};
type Line = {
  readonly indent: number;
  readonly blankBefore: boolean;
  readonly pieces: readonly Piece[];
  /** The block it belongs to, as the offset of its brace; −1 outside. */
  readonly block: number;
};

const is = (piece: Piece | undefined, ...types: readonly TokenType[]): boolean =>
  piece !== undefined && !piece.comment && types.some((type) => tokenMatcher(piece.token, type));

const piecesOf = (tokens: readonly IToken[], comments: readonly IToken[]): readonly Piece[] => {
  const inline = new Set<number>();
  const open: IToken[] = [];
  for (const token of tokens) {
    if (tokenMatcher(token, LCurly)) open.push(token);
    else if (tokenMatcher(token, RCurly)) {
      const brace = open.pop();
      if (brace?.startLine !== token.startLine) continue;
      inline.add(token.startOffset);
      if (brace !== undefined) inline.add(brace.startOffset);
    }
  }
  const piece = (token: IToken, comment: boolean) => ({
    token,
    comment,
    inline: inline.has(token.startOffset),
  });
  return [...tokens.map((t) => piece(t, false)), ...comments.map((t) => piece(t, true))].sort(
    (a, b) => a.token.startOffset - b.token.startOffset,
  );
};

const breaks = (before: Piece, piece: Piece, lines: number, marks: Marks): boolean => {
  if (before.comment) return true;
  if (piece.comment) return lines > 0;
  if (is(piece, LCurly)) return false;
  if (marks.item.has(piece.token.startOffset)) return true;
  if (is(before, LCurly) && !before.inline) return true;
  if (is(piece, RCurly)) return !piece.inline;
  return lines > 0;
};

const linesOf = (pieces: readonly Piece[], marks: Marks): readonly Line[] => {
  const lines: Line[] = [];
  let current: Piece[] = [];
  let [indent, blankBefore, block]: [number, boolean, number] = [0, false, -1];
  const open: number[] = [];
  pieces.forEach((piece, i) => {
    const before = pieces[i - 1];
    const apart = before === undefined ? 0 : (piece.token.startLine ?? 0) - (before.token.endLine ?? 0);
    if (before === undefined || breaks(before, piece, apart, marks)) {
      if (current.length > 0) lines.push({ indent, blankBefore, pieces: current, block });
      current = [];
      const depth = open.length - (is(piece, RCurly) ? 1 : 0);
      const at = piece.token.startOffset;
      const starts =
        piece.comment ||
        is(piece, RCurly) ||
        marks.item.has(at) ||
        marks.field.has(at) ||
        marks.inner.has(at);
      indent = 2 * Math.max(0, depth) + (starts ? 0 : 4);
      blankBefore = apart > 1 && !is(before, LCurly) && !is(piece, RCurly);
      block = open.at(-1) ?? -1;
    }
    current.push(piece);
    if (is(piece, LCurly)) open.push(piece.token.startOffset);
    if (is(piece, RCurly)) open.pop();
  });
  if (current.length > 0) lines.push({ indent, blankBefore, pieces: current, block });
  return lines;
};

const gap = (before: Piece, piece: Piece, marks: Marks): number => {
  const at = piece.token.startOffset;
  if (piece.comment) return 2;
  if (is(before, LCurly)) return is(piece, RCurly) ? 0 : 1;
  if (marks.field.has(at) || marks.part.has(at)) return 2;
  if (is(before, LSquare, LParen, Range) || marks.sign.has(before.token.startOffset)) return 0;
  return is(piece, RSquare, RParen, Comma, Range) || marks.callParen.has(at) ? 0 : 1;
};

const image = (piece: Piece): string => (piece.comment ? piece.token.image.trimEnd() : piece.token.image);

/** Text of a line from piece `from` up to the piece at offset `to`, without the gap before it. */
const textOf = (line: Line, from: number, to: number, marks: Marks): string => {
  let out = "";
  for (let i = from; i < line.pieces.length; i++) {
    const [before, piece] = [line.pieces[i - 1], line.pieces[i]];
    if (piece === undefined || piece.token.startOffset >= to) break;
    out += (i === from || before === undefined ? "" : " ".repeat(gap(before, piece, marks))) + image(piece);
  }
  return out;
};

const fieldsIn = (line: Line, marks: Marks): number =>
  line.pieces.filter((p) => marks.field.has(p.token.startOffset)).length;
const startsField = (line: Line, marks: Marks): boolean =>
  marks.field.has(line.pieces[0]?.token.startOffset ?? -1);

/** Width of the name column by block; absent where a line of the block holds several fields. */
const nameColumns = (lines: readonly Line[], marks: Marks): ReadonlyMap<number, number> => {
  const columns = new Map<number, number>();
  const crowded = new Set<number>();
  for (const line of lines) {
    if (fieldsIn(line, marks) === 0) continue;
    if (fieldsIn(line, marks) > 1 || !startsField(line, marks)) crowded.add(line.block);
    const width = line.pieces[0]?.token.image.length ?? 0;
    columns.set(line.block, Math.max(columns.get(line.block) ?? 0, width));
  }
  for (const block of crowded) columns.delete(block);
  return columns;
};

/** Width of `segment …` by line, for runs of lines that hold one plain branch each. */
const segmentColumns = (lines: readonly Line[], marks: Marks): ReadonlyMap<Line, number> => {
  const columns = new Map<Line, number>();
  let run: Line[] = [];
  const close = (): void => {
    const width = Math.max(0, ...run.map((l) => segmentText(l, marks)?.length ?? 0));
    for (const line of run) columns.set(line, width);
    run = [];
  };
  for (const line of lines) {
    if (line.pieces[0]?.comment === true) continue;
    if (segmentText(line, marks) === null || line.blankBefore) close();
    if (segmentText(line, marks) !== null) run.push(line);
  }
  close();
  return columns;
};

const segmentText = (line: Line, marks: Marks): string | null => {
  if (fieldsIn(line, marks) !== 1) return null;
  const dilation = marks.cut.get(line.pieces[0]?.token.startOffset ?? -1);
  if (dilation === undefined || !line.pieces.some((p) => p.token.startOffset === dilation)) return null;
  return textOf(line, 1, dilation, marks);
};

/** Lays out a file from its tokens, its comments and its CST, which must be free of errors. */
export const layout = (tokens: readonly IToken[], comments: readonly IToken[], cst: CstNode): string => {
  const marks = marksOf(cst);
  const lines = linesOf(piecesOf(tokens, comments), marks);
  const names = nameColumns(lines, marks);
  const segments = segmentColumns(lines, marks);
  return lines
    .map((line) => {
      const [first, second] = line.pieces;
      const name = first === undefined ? "" : image(first);
      const column = startsField(line, marks) ? names.get(line.block) : undefined;
      let text = name;
      if (second !== undefined && first !== undefined) {
        const width =
          second.comment || column === undefined ? name.length + gap(first, second, marks) : column + 2;
        text = name.padEnd(width);
        const segment = segmentText(line, marks);
        if (segment === null) text += textOf(line, 1, Infinity, marks);
        else {
          const dilation = marks.cut.get(first.token.startOffset) ?? Infinity;
          const from = line.pieces.findIndex((p) => p.token.startOffset === dilation);
          text += segment.padEnd((segments.get(line) ?? 0) + 2) + textOf(line, from, Infinity, marks);
        }
      }
      return `${line.blankBefore ? "\n" : ""}${" ".repeat(line.indent)}${text}\n`;
    })
    .join("");
};
