/* Calls the functions of the SDK as the settings say: see guesttest/probe.go. */
#include "tmcp_policy.h"

static char arena[48 << 10];
static uint32_t used;

/* Copies a text, and ends it in a zero. */
static const char *string(tmcp_str s) {
  char *out = arena + used;
  if (s.size + 1 > sizeof arena - used) __builtin_trap();
  for (uint32_t i = 0; i < s.size; i++) out[i] = s.bytes[i];
  out[s.size] = 0;
  used += s.size + 1;
  return out;
}

static tmcp_str text_or(tmcp_value v, const char *if_null) {
  return tmcp_is_null(v) ? tmcp_str_(if_null) : tmcp_text(v);
}

static void same(bool ok, tmcp_value v) {
  if (ok) tmcp_note("same", "", v);
}

static void probe(tmcp_value doc) {
  tmcp_value ops = tmcp_get(tmcp_get(doc, "settings"), "ops");
  for (uint32_t i = 0; i < tmcp_len(ops); i++) {
    tmcp_value op = tmcp_at(ops, i), v = doc, path = tmcp_get(op, "path");
    for (uint32_t j = 0; j < tmcp_len(path); j++) {
      tmcp_value step = tmcp_at(path, j), get = tmcp_find(step, "get"), find = tmcp_find(step, "find");
      if (!tmcp_is_null(get)) v = tmcp_get_str(v, tmcp_text(get));
      else if (!tmcp_is_null(find)) v = tmcp_find_str(v, tmcp_text(find));
      else v = tmcp_at(v, (uint32_t)tmcp_int(tmcp_get(step, "at")));
    }
    tmcp_str wanted = text_or(tmcp_find(op, "text"), "");
    const char *code = string(text_or(tmcp_find(op, "code"), "")), *text = string(wanted);
    int64_t n = tmcp_int_or(tmcp_find(op, "n"), 0);
    tmcp_value what = tmcp_get(op, "do");
    if (tmcp_is(what, "null")) same(tmcp_is_null(v), v);
    else if (tmcp_is(what, "len")) same(tmcp_len(v) == n, v);
    else if (tmcp_is(what, "bool")) same(tmcp_bool(v) == (n == 1), v);
    else if (tmcp_is(what, "bool-or")) same(tmcp_bool_or(v, true) == (n == 1), v);
    else if (tmcp_is(what, "int")) same(tmcp_int(v) == n, v);
    else if (tmcp_is(what, "int-or")) same(tmcp_int_or(v, -7) == n, v);
    else if (tmcp_is(what, "text")) same(tmcp_is(v, text), v);
    else if (tmcp_is(what, "text-or")) same(tmcp_is_or(v, text, tmcp_equal(wanted, tmcp_str_("none"))), v);
    else if (tmcp_is(what, "deny")) tmcp_deny(code, text, v);
    else if (tmcp_is(what, "note")) tmcp_note(code, text, v);
    else if (tmcp_is(what, "affirm")) tmcp_affirm(TMCP_RUNTIME_OPAQUE, (int8_t)n);
    else if (tmcp_is(what, "affirm-all")) tmcp_affirm_all((int8_t)n);
    else if (tmcp_is(what, "oblige-int")) tmcp_oblige_int(code, n);
    else if (tmcp_is(what, "oblige-bool")) tmcp_oblige_bool(code, n == 1);
    else if (tmcp_is(what, "oblige-text")) tmcp_oblige_text(code, wanted);
    else if (tmcp_is(what, "allow")) tmcp_allow();
    else if (tmcp_is(what, "abstain")) tmcp_abstain();
  }
}

TMCP_APPRAISE(probe)
TMCP_AUTHORIZE(probe)
