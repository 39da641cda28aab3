// Prints the JSON schemas of MCP that the conformance package carries, as one
// JSON object by revision. Usage: node mcp-schemas.mjs dist/index.js
import fs from 'node:fs';
import vm from 'node:vm';

const src = fs.readFileSync(process.argv[2], 'utf8');

// literal returns the object literal that starts at src[start].
function literal(start) {
  let depth = 0;
  for (let i = start; i < src.length; i++) {
    const c = src[i];
    if (c === '`' || c === '"' || c === "'") {
      for (i++; src[i] !== c; i++) if (src[i] === '\\') i++;
    } else if (c === '{') depth++;
    else if (c === '}' && --depth === 0) return src.slice(start, i + 1);
  }
  throw new Error('unbalanced literal at ' + start);
}

// The table {"2025-03-26":a,"2025-06-18":b,"2025-11-25":c,[latest]:d}.
const table = /\{"2025-03-26":([\w$]+),"2025-06-18":([\w$]+),"2025-11-25":([\w$]+),\[[\w$]+\]:([\w$]+)\}/.exec(src);
if (!table) throw new Error('no table of schemas: another version of the package?');
const out = {};
['2025-03-26', '2025-06-18', '2025-11-25', '2026-07-28'].forEach((rev, i) => {
  const head = table[i + 1] + '={$schema:';
  const at = src.indexOf(head);
  if (at < 0) throw new Error('no schema for ' + rev);
  out[rev] = vm.runInNewContext('(' + literal(at + head.length - '{$schema:'.length) + ')');
});
process.stdout.write(JSON.stringify(out));
