/* tmcp_policy.h: policies for Trusted MCP in C, for WebAssembly, without libc.
 *
 *   #include "tmcp_policy.h"
 *
 *   static void appraise(tmcp_value doc) {
 *     tmcp_value devices = tmcp_get(doc, "devices");
 *     for (uint32_t i = 0; i < tmcp_len(devices); i++) {
 *       tmcp_value debug = tmcp_get(tmcp_at(devices, i), "debug");
 *       if (tmcp_bool(debug)) tmcp_deny("debug", "the TEE can be read from outside", debug);
 *     }
 *     tmcp_affirm_all(TMCP_AFFIRMING);
 *     tmcp_allow();
 *   }
 *   TMCP_APPRAISE(appraise)
 *
 * Include it in one file. It reads the input in place, and checks all of it
 * before the policy runs. It fails closed: who reads a member that is missing,
 * or that has another type, gets null, false, 0, "" or length 0, and whatever
 * the policy says then, the result is a denial that names this member. Only
 * tmcp_find, tmcp_is_null and the functions with _or ask without that.
 */
#ifndef TMCP_POLICY_H
#define TMCP_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A value of the document: a view, to be passed by value. */
typedef struct {
  const uint8_t *at;     /* its first byte; NULL: there is none */
  const uint8_t *parent; /* where it is missing: of which object or array, */
  const char *name;      /* under which name (NULL: none) */
  uint32_t name_size;
} tmcp_value;

/* A text, which does not end in a zero. */
typedef struct {
  const char *bytes;
  uint32_t size;
} tmcp_str;

/* No value, for reasons without a claim. */
#define TMCP_NONE ((tmcp_value){NULL, NULL, NULL, 0})

/* AR4SI claims. */
typedef enum {
  TMCP_HARDWARE,
  TMCP_EXECUTABLES,
  TMCP_FILE_SYSTEM,
  TMCP_SOURCED_DATA,
  TMCP_CONFIGURATION,
  TMCP_RUNTIME_OPAQUE,
  TMCP_STORAGE_OPAQUE,
  TMCP_INSTANCE_IDENTITY,
  TMCP_CLAIMS_
} tmcp_claim;

/* Values of AR4SI claims, one of each tier. */
enum { TMCP_UNKNOWN = 0, TMCP_AFFIRMING = 2, TMCP_WARNING = 32, TMCP_CONTRAINDICATED = 96 };

/* Reading. Names are C strings, or texts of the document in the functions with
 * _str. */
static inline tmcp_value tmcp_get(tmcp_value v, const char *name);           /* the member, which must be there */
static inline tmcp_value tmcp_get_str(tmcp_value v, tmcp_str name);
static inline tmcp_value tmcp_find(tmcp_value v, const char *name);          /* the member, or null; of null: null */
static inline tmcp_value tmcp_find_str(tmcp_value v, tmcp_str name);
static inline tmcp_value tmcp_at(tmcp_value v, uint32_t i);                  /* the element, which must be there */
static inline uint32_t tmcp_len(tmcp_value v);                               /* of an array or object */
static inline bool tmcp_is_null(tmcp_value v);
static inline bool tmcp_bool(tmcp_value v);
static inline bool tmcp_bool_or(tmcp_value v, bool if_null);
static inline int64_t tmcp_int(tmcp_value v);                                /* between -2^53 and 2^53 */
static inline int64_t tmcp_int_or(tmcp_value v, int64_t if_null);
static inline tmcp_str tmcp_text(tmcp_value v);
static inline bool tmcp_is(tmcp_value v, const char *text);                  /* it is this text */
static inline bool tmcp_is_or(tmcp_value v, const char *text, bool if_null);
static inline bool tmcp_equal(tmcp_str a, tmcp_str b);

/* Answering. Codes have 1 to 64 characters of a-z, 0-9 and hyphen; texts at most
 * 256 bytes. Texts must stay where they are. The first 32 reasons stand. */
static inline void tmcp_deny(const char *code, const char *text, tmcp_value claim);
static inline void tmcp_note(const char *code, const char *text, tmcp_value claim); /* does not deny */
static inline void tmcp_affirm(tmcp_claim claim, int8_t value);
static inline void tmcp_affirm_all(int8_t value);
static inline void tmcp_oblige_int(const char *id, int64_t value);
static inline void tmcp_oblige_bool(const char *id, bool value);
static inline void tmcp_oblige_text(const char *id, tmcp_str value);
static inline void tmcp_allow(void);   /* unless anything denied */
static inline void tmcp_abstain(void); /* unless anything denied or allowed */

/* The entry points: say which functions answer. */
#define TMCP_APPRAISE(f) TMCP_ENTRY_("tmcp_appraise", tmcp_appraise, f, true)
#define TMCP_AUTHORIZE(f) TMCP_ENTRY_("tmcp_authorize", tmcp_authorize, f, false)

/* ------------------------------------------------------------------ inside */

#define TMCP_LEVELS_ 32
#define TMCP_REASONS_ 32
#define TMCP_OBLIGATIONS_ 16
#define TMCP_TEXT_ 256
#define TMCP_OUTPUT_ 40960

enum { TMCP_UINT_, TMCP_NEGATIVE_, TMCP_BYTES_, TMCP_TEXT_TYPE_, TMCP_ARRAY_, TMCP_MAP_, TMCP_TAG_, TMCP_SIMPLE_ };
enum { TMCP_FALSE_ = 0xf4, TMCP_TRUE_ = 0xf5, TMCP_NULL_ = 0xf6 };

typedef struct {
  const char *code, *text;
  tmcp_value claim;
} tmcp_reason_;

typedef struct {
  const char *id;
  char kind; /* i, b or t */
  int64_t number;
  tmcp_str text;
} tmcp_obligation_;

static struct {
  const uint8_t *root;
  tmcp_reason_ fault; /* code is NULL: none */
  bool denied, allowed, abstained;
  tmcp_reason_ reasons[TMCP_REASONS_];
  uint32_t reason_count;
  int8_t vector[TMCP_CLAIMS_];
  bool affirmed[TMCP_CLAIMS_];
  tmcp_obligation_ obligations[TMCP_OBLIGATIONS_];
  uint32_t obligation_count;
  uint8_t output[TMCP_OUTPUT_];
  uint32_t size;
  bool overflow;
} tmcp_;

/* The compiler calls these for large copies. */
__attribute__((weak)) void *memcpy(void *restrict to, const void *restrict from, size_t n) {
  for (size_t i = 0; i < n; i++) ((uint8_t *)to)[i] = ((const uint8_t *)from)[i];
  return to;
}

__attribute__((weak)) void *memset(void *to, int byte, size_t n) {
  for (size_t i = 0; i < n; i++) ((uint8_t *)to)[i] = (uint8_t)byte;
  return to;
}

static inline tmcp_str tmcp_str_(const char *s) {
  uint32_t n = 0;
  while (s[n] != 0) n++;
  return (tmcp_str){s, n};
}

static inline bool tmcp_equal(tmcp_str a, tmcp_str b) {
  if (a.size != b.size) return false;
  for (uint32_t i = 0; i < a.size; i++)
    if (a.bytes[i] != b.bytes[i]) return false;
  return true;
}

static inline void tmcp_fault_(const char *code, const char *text, tmcp_value claim) {
  if (tmcp_.fault.code == NULL) tmcp_.fault = (tmcp_reason_){code, text, claim};
}

/* Reads the head of an item that was checked, and moves behind it. */
static inline uint64_t tmcp_head_(const uint8_t **p) {
  uint8_t info = *(*p)++ & 31;
  if (info < 24) return info;
  uint64_t n = 0;
  for (int left = 1 << (info - 24); left > 0; left--) n = n << 8 | *(*p)++;
  return n;
}

/* Returns what follows an item that was checked. */
static inline const uint8_t *tmcp_after_(const uint8_t *p) {
  for (uint32_t left = 1; left > 0; left--) {
    uint8_t type = *p >> 5;
    uint64_t n = tmcp_head_(&p);
    if (type == TMCP_TEXT_TYPE_) p += n;
    if (type == TMCP_ARRAY_) left += (uint32_t)n;
    if (type == TMCP_MAP_) left += 2 * (uint32_t)n;
  }
  return p;
}

static inline tmcp_str tmcp_text_at_(const uint8_t **p) {
  uint32_t n = (uint32_t)tmcp_head_(p);
  tmcp_str s = {(const char *)*p, n};
  *p += n;
  return s;
}

static inline bool tmcp_utf8_(const uint8_t *p, uint64_t n) {
  const uint8_t *end = p + n;
  while (p < end) {
    uint8_t c = *p++;
    if (c < 0x80) continue;
    uint8_t least = 0x80, most = 0xbf; /* of the second byte */
    int more;
    if (c >= 0xc2 && c <= 0xdf) more = 1;
    else if (c >= 0xe0 && c <= 0xef) more = 2;
    else if (c >= 0xf0 && c <= 0xf4) more = 3;
    else return false;
    if (c == 0xe0) least = 0xa0;
    if (c == 0xed) most = 0x9f;
    if (c == 0xf0) least = 0x90;
    if (c == 0xf4) most = 0x8f;
    for (; more > 0; more--, least = 0x80, most = 0xbf)
      if (p == end || *p < least || *p > most) return false;
      else p++;
  }
  return true;
}

/* The order of keys: the shorter first, else by bytes, which is that of their
 * encodings. */
static inline bool tmcp_less_(tmcp_str a, tmcp_str b) {
  if (a.size != b.size) return a.size < b.size;
  for (uint32_t i = 0; i < a.size; i++)
    if (a.bytes[i] != b.bytes[i]) return (uint8_t)a.bytes[i] < (uint8_t)b.bytes[i];
  return false;
}

/* Reports whether the input is one document in deterministic CBOR. */
static inline bool tmcp_check_(const uint8_t *p, uint32_t size) {
  struct {
    uint64_t left; /* items that are still to come; of a map, keys and values */
    bool map;
    tmcp_str key; /* the last one */
  } stack[TMCP_LEVELS_];
  const uint8_t *end = p + size;
  uint32_t depth = 0;
  for (;;) {
    if (p == end) return false;
    bool key = depth > 0 && stack[depth - 1].map && stack[depth - 1].left % 2 == 0;
    uint8_t type = *p >> 5, info = *p & 31;
    uint64_t n = info;
    p++;
    if (info >= 28) return false;
    if (info >= 24) {
      uint32_t bytes = 1u << (info - 24);
      if (type == TMCP_SIMPLE_ || (uint32_t)(end - p) < bytes) return false;
      n = 0;
      for (uint32_t i = 0; i < bytes; i++) n = n << 8 | *p++;
      if (bytes == 1 ? n < 24 : n >> (bytes * 4) == 0) return false;
    }
    if (key && type != TMCP_TEXT_TYPE_) return false;
    if (depth > 0) stack[depth - 1].left--;
    switch (type) {
    case TMCP_UINT_:
      if (n >= 1ull << 53) return false;
      break;
    case TMCP_NEGATIVE_:
      if (n >= (1ull << 53) - 1) return false;
      break;
    case TMCP_TEXT_TYPE_:
      if (n > (uint64_t)(end - p) || !tmcp_utf8_(p, n)) return false;
      if (key) {
        tmcp_str s = {(const char *)p, (uint32_t)n};
        if (stack[depth - 1].key.bytes != NULL && !tmcp_less_(stack[depth - 1].key, s)) return false;
        stack[depth - 1].key = s;
      }
      p += n;
      break;
    case TMCP_ARRAY_:
    case TMCP_MAP_:
      if (n > (uint64_t)(end - p) || depth == TMCP_LEVELS_) return false;
      stack[depth].left = type == TMCP_MAP_ ? 2 * n : n;
      stack[depth].map = type == TMCP_MAP_;
      stack[depth].key = (tmcp_str){NULL, 0};
      depth++;
      break;
    case TMCP_SIMPLE_:
      if (n < 20 || n > 22) return false;
      break;
    default:
      return false;
    }
    while (depth > 0 && stack[depth - 1].left == 0) depth--;
    if (depth == 0) return p == end;
  }
}

static inline bool tmcp_none_(tmcp_value v) { return v.at == NULL; }

static inline uint8_t tmcp_type_(tmcp_value v) { return tmcp_none_(v) ? 255 : *v.at >> 5; }

static inline tmcp_value tmcp_missing_(const uint8_t *parent, tmcp_str name) {
  return (tmcp_value){NULL, parent, name.bytes, name.size};
}

/* Notes that v is not what the policy wanted to read. */
static inline void tmcp_wrong_(tmcp_value v) {
  if (tmcp_none_(v) && v.name != NULL)
    tmcp_fault_("claim-missing", "a member that the policy reads is missing", v);
  else
    tmcp_fault_("claim-type", "a member that the policy reads has another type", v);
}

static inline bool tmcp_is_null(tmcp_value v) { return tmcp_none_(v) || *v.at == TMCP_NULL_; }

static inline tmcp_value tmcp_find_str(tmcp_value v, tmcp_str name) {
  if (tmcp_is_null(v)) return v;
  if (tmcp_type_(v) != TMCP_MAP_) {
    tmcp_wrong_(v);
    return TMCP_NONE;
  }
  const uint8_t *p = v.at;
  for (uint64_t n = tmcp_head_(&p); n > 0; n--) {
    if (tmcp_equal(tmcp_text_at_(&p), name)) return (tmcp_value){p, NULL, NULL, 0};
    p = tmcp_after_(p);
  }
  return tmcp_missing_(v.at, name);
}

static inline tmcp_value tmcp_find(tmcp_value v, const char *name) { return tmcp_find_str(v, tmcp_str_(name)); }

static inline tmcp_value tmcp_get_str(tmcp_value v, tmcp_str name) {
  if (tmcp_type_(v) != TMCP_MAP_) {
    tmcp_wrong_(v);
    return TMCP_NONE;
  }
  tmcp_value member = tmcp_find_str(v, name);
  if (tmcp_none_(member)) tmcp_wrong_(member);
  return member;
}

static inline tmcp_value tmcp_get(tmcp_value v, const char *name) { return tmcp_get_str(v, tmcp_str_(name)); }

static inline uint32_t tmcp_len(tmcp_value v) {
  uint8_t type = tmcp_type_(v);
  if (type != TMCP_ARRAY_ && type != TMCP_MAP_) {
    tmcp_wrong_(v);
    return 0;
  }
  const uint8_t *p = v.at;
  return (uint32_t)tmcp_head_(&p);
}

/* Writes i in digits at the end of s, and returns where they begin. */
static inline tmcp_str tmcp_digits_(char s[10], uint32_t i) {
  uint32_t n = 10;
  do s[--n] = (char)('0' + i % 10);
  while ((i /= 10) > 0);
  return (tmcp_str){s + n, 10 - n};
}

static inline tmcp_value tmcp_at(tmcp_value v, uint32_t i) {
  static char beyond[10]; /* only the first fault counts */
  if (tmcp_type_(v) != TMCP_ARRAY_) {
    tmcp_wrong_(v);
    return TMCP_NONE;
  }
  const uint8_t *p = v.at;
  uint64_t n = tmcp_head_(&p);
  if (i >= n) {
    if (tmcp_.fault.code == NULL) tmcp_wrong_(tmcp_missing_(v.at, tmcp_digits_(beyond, i)));
    return TMCP_NONE;
  }
  while (i-- > 0) p = tmcp_after_(p);
  return (tmcp_value){p, NULL, NULL, 0};
}

static inline bool tmcp_bool(tmcp_value v) {
  if (tmcp_none_(v) || (*v.at != TMCP_FALSE_ && *v.at != TMCP_TRUE_)) {
    tmcp_wrong_(v);
    return false;
  }
  return *v.at == TMCP_TRUE_;
}

static inline bool tmcp_bool_or(tmcp_value v, bool if_null) { return tmcp_is_null(v) ? if_null : tmcp_bool(v); }

static inline int64_t tmcp_int(tmcp_value v) {
  uint8_t type = tmcp_type_(v);
  if (type != TMCP_UINT_ && type != TMCP_NEGATIVE_) {
    tmcp_wrong_(v);
    return 0;
  }
  const uint8_t *p = v.at;
  int64_t n = (int64_t)tmcp_head_(&p);
  return type == TMCP_NEGATIVE_ ? -1 - n : n;
}

static inline int64_t tmcp_int_or(tmcp_value v, int64_t if_null) { return tmcp_is_null(v) ? if_null : tmcp_int(v); }

static inline tmcp_str tmcp_text(tmcp_value v) {
  if (tmcp_type_(v) != TMCP_TEXT_TYPE_) {
    tmcp_wrong_(v);
    return (tmcp_str){"", 0};
  }
  const uint8_t *p = v.at;
  return tmcp_text_at_(&p);
}

static inline bool tmcp_is(tmcp_value v, const char *text) { return tmcp_equal(tmcp_text(v), tmcp_str_(text)); }

static inline bool tmcp_is_or(tmcp_value v, const char *text, bool if_null) {
  return tmcp_is_null(v) ? if_null : tmcp_is(v, text);
}

static inline void tmcp_note(const char *code, const char *text, tmcp_value claim) {
  if (tmcp_.reason_count < TMCP_REASONS_) tmcp_.reasons[tmcp_.reason_count++] = (tmcp_reason_){code, text, claim};
}

static inline void tmcp_deny(const char *code, const char *text, tmcp_value claim) {
  tmcp_.denied = true;
  tmcp_note(code, text, claim);
}

static inline void tmcp_affirm(tmcp_claim claim, int8_t value) {
  if ((uint32_t)claim >= TMCP_CLAIMS_) return;
  tmcp_.vector[claim] = value;
  tmcp_.affirmed[claim] = true;
}

static inline void tmcp_affirm_all(int8_t value) {
  for (uint32_t i = 0; i < TMCP_CLAIMS_; i++) tmcp_affirm((tmcp_claim)i, value);
}

static inline void tmcp_oblige_(tmcp_obligation_ o) {
  for (uint32_t i = 0; i < tmcp_.obligation_count; i++)
    if (tmcp_equal(tmcp_str_(tmcp_.obligations[i].id), tmcp_str_(o.id))) {
      tmcp_.obligations[i] = o;
      return;
    }
  if (tmcp_.obligation_count == TMCP_OBLIGATIONS_) {
    tmcp_fault_("result-limit", "the result has more than 16 obligations", TMCP_NONE);
    return;
  }
  tmcp_.obligations[tmcp_.obligation_count++] = o;
}

static inline void tmcp_oblige_int(const char *id, int64_t value) {
  tmcp_oblige_((tmcp_obligation_){id, 'i', value, {NULL, 0}});
}
static inline void tmcp_oblige_bool(const char *id, bool value) {
  tmcp_oblige_((tmcp_obligation_){id, 'b', value, {NULL, 0}});
}
static inline void tmcp_oblige_text(const char *id, tmcp_str value) {
  tmcp_oblige_((tmcp_obligation_){id, 't', 0, value});
}

static inline void tmcp_allow(void) { tmcp_.allowed = true; }
static inline void tmcp_abstain(void) { tmcp_.abstained = true; }

/* Writing. */

static inline void tmcp_byte_(uint8_t c) {
  if (tmcp_.size == TMCP_OUTPUT_) tmcp_.overflow = true;
  else tmcp_.output[tmcp_.size++] = c;
}

static inline void tmcp_put_head_(uint8_t type, uint64_t n) {
  type = (uint8_t)(type << 5);
  if (n < 24) {
    tmcp_byte_((uint8_t)(type | n));
    return;
  }
  uint8_t info = n < 1ull << 8 ? 0 : n < 1ull << 16 ? 1 : n < 1ull << 32 ? 2 : 3;
  tmcp_byte_((uint8_t)(type | (24 + info)));
  for (int shift = (8 << info) - 8; shift >= 0; shift -= 8) tmcp_byte_((uint8_t)(n >> shift));
}

static inline void tmcp_put_text_(tmcp_str s) {
  tmcp_put_head_(TMCP_TEXT_TYPE_, s.size);
  for (uint32_t i = 0; i < s.size; i++) tmcp_byte_((uint8_t)s.bytes[i]);
}

static inline void tmcp_put_(const char *s) { tmcp_put_text_(tmcp_str_(s)); }

static inline void tmcp_put_int_(int64_t n) {
  if (n < 0) tmcp_put_head_(TMCP_NEGATIVE_, (uint64_t)(-1 - n));
  else tmcp_put_head_(TMCP_UINT_, (uint64_t)n);
}

/* A JSON pointer. A token that does not fit ends it. */
typedef struct {
  char bytes[TMCP_TEXT_];
  uint32_t size;
  bool full;
} tmcp_pointer_;

static inline void tmcp_token_(tmcp_pointer_ *to, tmcp_str s) {
  uint32_t size = 1 + s.size;
  for (uint32_t i = 0; i < s.size; i++)
    if (s.bytes[i] == '~' || s.bytes[i] == '/') size++;
  if (to->full || size > TMCP_TEXT_ - to->size) {
    to->full = true;
    return;
  }
  to->bytes[to->size++] = '/';
  for (uint32_t i = 0; i < s.size; i++) {
    char c = s.bytes[i];
    if (c == '~' || c == '/') {
      to->bytes[to->size++] = '~';
      c = c == '~' ? '0' : '1';
    }
    to->bytes[to->size++] = c;
  }
}

/* Finds the way to a value from the root: views do not keep it. */
static inline void tmcp_point_(tmcp_pointer_ *to, tmcp_value v) {
  const uint8_t *target = tmcp_none_(v) ? v.parent : v.at, *p = tmcp_.root;
  if (target == NULL) return;
  while (p != target) {
    uint8_t type = *p >> 5;
    uint64_t n = tmcp_head_(&p);
    for (uint32_t i = 0; i < n; i++) {
      char digits[10];
      tmcp_str name = type == TMCP_MAP_ ? tmcp_text_at_(&p) : tmcp_digits_(digits, i);
      const uint8_t *next = tmcp_after_(p);
      if (target < next) {
        tmcp_token_(to, name);
        break;
      }
      p = next;
    }
  }
  if (tmcp_none_(v)) tmcp_token_(to, (tmcp_str){v.name, v.name_size});
}

static inline void tmcp_put_reason_(const tmcp_reason_ *r) {
  tmcp_pointer_ claim;
  claim.size = 0;
  claim.full = false;
  tmcp_point_(&claim, r->claim);
  tmcp_str text = tmcp_str_(r->text);
  if (text.size > TMCP_TEXT_) {
    text.size = TMCP_TEXT_;
    while (text.size > 0 && ((uint8_t)text.bytes[text.size] & 0xc0) == 0x80) text.size--;
  }
  tmcp_put_head_(TMCP_MAP_, 1u + (text.size > 0) + (claim.size > 0));
  tmcp_put_("code");
  tmcp_put_(r->code);
  if (text.size > 0) {
    tmcp_put_("text");
    tmcp_put_text_(text);
  }
  if (claim.size > 0) {
    tmcp_put_("claim");
    tmcp_put_text_((tmcp_str){claim.bytes, claim.size});
  }
}

static inline uint64_t tmcp_finish_(bool appraise) {
  static const char *const names[TMCP_CLAIMS_] = {"hardware", "executables", "file-system", "sourced-data", "configuration", "runtime-opaque", "storage-opaque", "instance-identity"};
  const char *decision = "deny";
  bool fault = tmcp_.fault.code != NULL;
  if (fault) {
    tmcp_.reasons[0] = tmcp_.fault;
    tmcp_.reason_count = 1;
  } else if (!tmcp_.denied) {
    if (tmcp_.allowed) decision = "allow";
    else if (tmcp_.abstained) decision = "abstain";
    else tmcp_note("no-decision", "the policy did not decide", TMCP_NONE);
  }
  uint32_t claims = 0;
  for (uint32_t i = 0; i < TMCP_CLAIMS_; i++) claims += tmcp_.affirmed[i];
  if (fault || !appraise) claims = 0;
  if (decision[0] != 'a' || decision[1] != 'l') tmcp_.obligation_count = 0;

  tmcp_put_head_(TMCP_MAP_, 1u + (claims > 0) + (tmcp_.reason_count > 0) + (tmcp_.obligation_count > 0));
  if (claims > 0) {
    tmcp_put_("vector");
    tmcp_put_head_(TMCP_MAP_, claims);
    for (uint32_t i = 0; i < TMCP_CLAIMS_; i++)
      if (tmcp_.affirmed[i]) {
        tmcp_put_(names[i]);
        tmcp_put_int_(tmcp_.vector[i]);
      }
  }
  if (tmcp_.reason_count > 0) {
    tmcp_put_("reasons");
    tmcp_put_head_(TMCP_ARRAY_, tmcp_.reason_count);
    for (uint32_t i = 0; i < tmcp_.reason_count; i++) tmcp_put_reason_(&tmcp_.reasons[i]);
  }
  tmcp_put_("decision");
  tmcp_put_(decision);
  if (tmcp_.obligation_count > 0) {
    tmcp_put_("obligations");
    tmcp_put_head_(TMCP_ARRAY_, tmcp_.obligation_count);
    for (uint32_t i = 0; i < tmcp_.obligation_count; i++) {
      const tmcp_obligation_ *o = &tmcp_.obligations[i];
      tmcp_put_head_(TMCP_MAP_, 2);
      tmcp_put_("id");
      tmcp_put_(o->id);
      tmcp_put_("value");
      if (o->kind == 'i') tmcp_put_int_(o->number);
      else if (o->kind == 't') tmcp_put_text_(o->text);
      else tmcp_byte_(o->number ? TMCP_TRUE_ : TMCP_FALSE_);
    }
  }
  if (tmcp_.overflow) return 0; /* the host denies */
  return (uint64_t)(uintptr_t)tmcp_.output << 32 | tmcp_.size;
}

static inline uint64_t tmcp_run_(const uint8_t *in, uint32_t size, bool appraise, void (*policy)(tmcp_value)) {
  tmcp_.root = in;
  tmcp_.fault.code = NULL; /* nothing stays of an earlier question: hosts may keep instances */
  tmcp_.denied = tmcp_.allowed = tmcp_.abstained = tmcp_.overflow = false;
  tmcp_.reason_count = tmcp_.obligation_count = tmcp_.size = 0;
  for (int i = 0; i < TMCP_CLAIMS_; i++) tmcp_.affirmed[i] = false;
  if (tmcp_check_(in, size)) policy((tmcp_value){in, NULL, NULL, 0});
  else tmcp_fault_("input-malformed", "the input is not deterministic CBOR of a document", TMCP_NONE);
  return tmcp_finish_(appraise);
}

__attribute__((export_name("tmcp_abi_version"))) uint32_t tmcp_abi_version(void) { return 1; }

extern uint8_t __heap_base;

/* Makes room for the input behind all data. */
__attribute__((export_name("tmcp_allocate"))) void *tmcp_allocate(uint32_t size) {
  static uint32_t used;
  uint32_t at = (uint32_t)(uintptr_t)&__heap_base + used, have = (uint32_t)__builtin_wasm_memory_size(0);
  if (size > 16u << 20 || used > 16u << 20) return NULL;
  uint32_t need = (at + size + 65535) >> 16;
  if (need > have && __builtin_wasm_memory_grow(0, need - have) == (size_t)-1) return NULL;
  used += (size + 7) & ~7u;
  return (void *)(uintptr_t)at;
}

#define TMCP_ENTRY_(export, name, f, appraise)                                          \
  __attribute__((export_name(export))) uint64_t name(const uint8_t *in, uint32_t size) { \
    return tmcp_run_(in, size, appraise, f);                                             \
  }

#endif
