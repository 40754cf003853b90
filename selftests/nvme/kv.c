// SPDX-License-Identifier: GPL-2.0
/* Key Value Command Set: Store, Retrieve, List, Delete, Exist. */
#include <stdio.h>

#include "nvme_test.h"

enum {
	MUST_EXIST = 1 << 0,
	MUST_NOT_EXIST = 1 << 1,
};

#define FEATURE_KV_CONFIG	0x20
#define DELETE_MISSING_FAILS	0x1	/* EDNEK */

static bool is_kv(const struct nt_ns *ns)
{
	return ns->csi == NVME_CSI_KV;
}

static struct nt_key make_key(const char *name, __u8 len)
{
	struct nt_key key = { .len = len };
	size_t i;

	for (i = 0; i < sizeof(key.bytes) && i < len; i++)
		key.bytes[i] = name[i % strlen(name)];
	return key;
}

static int store(struct nt_ns *ns, enum nt_via via, __u8 option,
		 const struct nt_key *key, void *value, __u32 len)
{
	return nt_kv(ns, via, NVME_CMD_KV_STORE, option, key, value, len, NULL);
}

static int retrieve(struct nt_ns *ns, enum nt_via via, const struct nt_key *key,
		    void *value, __u32 len, __u64 *size)
{
	*size = -1;
	return nt_kv(ns, via, NVME_CMD_KV_RETRIEVE, 0, key, value, len, size);
}

static int delete(struct nt_ns *ns, enum nt_via via, const struct nt_key *key)
{
	return nt_kv(ns, via, NVME_CMD_KV_DELETE, 0, key, NULL, 0, NULL);
}

static int exist(struct nt_ns *ns, enum nt_via via, const struct nt_key *key)
{
	return nt_kv(ns, via, NVME_CMD_KV_EXIST, 0, key, NULL, 0, NULL);
}

/* Store, look for it, get it back whole with its size, delete. */
static void round_trip(struct nt_ns *ns, enum nt_via via,
		       const struct nt_key *key, __u32 len)
{
	char *value = nt_alloc(len, 0), *got = nt_alloc(len, 0);
	__u64 size;

	nt_fill(value, len, len * 17 + key->len);
	nt_status(store(ns, via, 0, key, value, len), NVME_SC_SUCCESS);
	size = -1;
	nt_status(nt_kv(ns, via, NVME_CMD_KV_EXIST, 0, key, NULL, 0, &size),
		  NVME_SC_SUCCESS);
	nt_eq(size, len);
	nt_status(retrieve(ns, via, key, got, len, &size), NVME_SC_SUCCESS);
	nt_eq(size, len);
	nt_same(got, value, len);
	nt_status(delete(ns, via, key), NVME_SC_SUCCESS);
	nt_status(exist(ns, via, key), NVME_SC_KV_NO_KEY);
}

static void store_retrieve(struct nt_ns *ns, enum nt_via via)
{
	struct nt_key key = make_key("round-trip", 10);

	round_trip(ns, via, &key, 4096);
}

static void key_lengths(struct nt_ns *ns, enum nt_via via)
{
	static const __u8 lens[] = { 1, 4, 7, 8, 9, 15, 16 };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(lens); i++) {
		struct nt_key key = make_key("0123456789abcdef", lens[i]);

		round_trip(ns, via, &key, 100);
	}
}

/* Keys that differ only in length, or in the last byte, are different keys. */
static void key_identity(struct nt_ns *ns, enum nt_via via)
{
	struct nt_key keys[5];
	char *got = nt_alloc(16, 0);
	__u64 size;
	__u32 i;

	keys[0] = make_key("k", 1);
	keys[1] = make_key("kk", 2);
	keys[2] = make_key("k", 1);
	keys[2].len = 2;
	keys[3] = make_key("0123456789abcdef", 16);
	keys[4] = make_key("0123456789abcdeg", 16);
	for (i = 0; i < ARRAY_SIZE(keys); i++)
		nt_status(store(ns, via, 0, &keys[i], memset(got, 'a' + i, 8),
				i + 1), NVME_SC_SUCCESS);
	for (i = 0; i < ARRAY_SIZE(keys); i++) {
		nt_status(retrieve(ns, via, &keys[i], got, 16, &size),
			  NVME_SC_SUCCESS);
		nt_eq(size, i + 1);
		nt_eq(got[0], 'a' + i);
		nt_status(delete(ns, via, &keys[i]), NVME_SC_SUCCESS);
	}
}

static void key_length_0(struct nt_ns *ns, enum nt_via via)
{
	struct nt_key key = { .len = 0 };
	char *value = nt_alloc(16, 0);
	__u64 size;

	nt_status(store(ns, via, 0, &key, value, 16), NVME_SC_KV_KEY_SIZE);
	nt_status(retrieve(ns, via, &key, value, 16, &size),
		  NVME_SC_KV_KEY_SIZE);
	nt_status(delete(ns, via, &key), NVME_SC_KV_KEY_SIZE);
	nt_status(exist(ns, via, &key), NVME_SC_KV_KEY_SIZE);
}

static void key_length_17(struct nt_ns *ns, enum nt_via via)
{
	struct nt_key key = make_key("0123456789abcdef", 17);
	char *value = nt_alloc(4096, 0);
	__u64 size;

	nt_status(store(ns, via, 0, &key, value, 16), NVME_SC_INVALID_FIELD);
	nt_status(retrieve(ns, via, &key, value, 16, &size),
		  NVME_SC_INVALID_FIELD);
	nt_status(nt_kv(ns, via, NVME_CMD_KV_LIST, 0, &key, value, 4096, NULL),
		  NVME_SC_INVALID_FIELD);
	nt_status(delete(ns, via, &key), NVME_SC_INVALID_FIELD);
	nt_status(exist(ns, via, &key), NVME_SC_INVALID_FIELD);
}

static void value_sizes(struct nt_ns *ns, enum nt_via via)
{
	static const __u32 sizes[] = {
		0, 1, 2, 3, 4, 511, 512, 4095, 4096, 4097, 8191, 8192, 8193,
		12288, 65535, 65536,
	};
	struct nt_key key = make_key("sized", 5);
	size_t i;

	for (i = 0; i < ARRAY_SIZE(sizes); i++)
		round_trip(ns, via, &key, sizes[i]);
}

/* The largest value that the namespace's key value format allows. */
static __u32 max_value(struct nt_ns *ns)
{
	unsigned char id[4096];

	nt_status(nt_identify(ns->dev.fd, NVME_ID_CNS_CS_NS, NVME_CSI_KV,
			      ns->nsid, id), NVME_SC_SUCCESS);
	return nt_le32(id + 72 + (id[29] & 0xf) * 16 + 4);
}

/* What every supported kernel sends in one command, with an IOMMU too. */
#define KERNEL_LIMIT	(128 << 10)

static __u32 max_value_in_one_command(struct nt_ns *ns)
{
	__u32 max = max_value(ns);

	if (max >= KERNEL_LIMIT || (ns->mdts && max >= ns->mdts))
		nt_skip("a value of %u + 1 bytes does not fit one command",
			max);
	return max;
}

static void value_max(struct nt_ns *ns, enum nt_via via)
{
	struct nt_key key = make_key("largest", 7);

	round_trip(ns, via, &key, max_value_in_one_command(ns));
}

static void value_max_plus_1(struct nt_ns *ns, enum nt_via via)
{
	struct nt_key key = make_key("too-large", 9);
	__u32 len = max_value_in_one_command(ns) + 1;

	nt_status(store(ns, via, 0, &key, nt_alloc(len, 0), len),
		  NVME_SC_KV_VALUE_SIZE);
	nt_status(exist(ns, via, &key), NVME_SC_KV_NO_KEY);
}

static void store_replaces(struct nt_ns *ns, enum nt_via via)
{
	struct nt_key key = make_key("replaced", 8);
	char *a = nt_alloc(9000, 0), *b = nt_alloc(300, 0);
	char *got = nt_alloc(9000, 0);
	__u64 size;

	nt_fill(a, 9000, 1);
	nt_fill(b, 300, 2);
	nt_status(store(ns, via, 0, &key, a, 9000), NVME_SC_SUCCESS);
	nt_status(store(ns, via, 0, &key, b, 300), NVME_SC_SUCCESS);
	nt_status(retrieve(ns, via, &key, got, 9000, &size), NVME_SC_SUCCESS);
	nt_eq(size, 300);
	nt_same(got, b, 300);
	nt_status(store(ns, via, 0, &key, a, 9000), NVME_SC_SUCCESS);
	nt_status(retrieve(ns, via, &key, got, 9000, &size), NVME_SC_SUCCESS);
	nt_eq(size, 9000);
	nt_same(got, a, 9000);
	nt_status(delete(ns, via, &key), NVME_SC_SUCCESS);
}

static void store_must_exist(struct nt_ns *ns, enum nt_via via)
{
	struct nt_key key = make_key("must-exist", 10);
	char *a = nt_alloc(64, 0), *b = nt_alloc(64, 0), *got = nt_alloc(64, 0);
	__u64 size;

	nt_fill(a, 64, 1);
	nt_fill(b, 64, 2);
	nt_status(store(ns, via, MUST_EXIST, &key, a, 64), NVME_SC_KV_NO_KEY);
	nt_status(exist(ns, via, &key), NVME_SC_KV_NO_KEY);
	nt_status(store(ns, via, 0, &key, a, 64), NVME_SC_SUCCESS);
	nt_status(store(ns, via, MUST_EXIST, &key, b, 64), NVME_SC_SUCCESS);
	nt_status(retrieve(ns, via, &key, got, 64, &size), NVME_SC_SUCCESS);
	nt_same(got, b, 64);
	nt_status(delete(ns, via, &key), NVME_SC_SUCCESS);
}

static void store_must_not_exist(struct nt_ns *ns, enum nt_via via)
{
	struct nt_key key = make_key("must-not-exist", 14);
	char *a = nt_alloc(64, 0), *b = nt_alloc(64, 0), *got = nt_alloc(64, 0);
	__u64 size;

	nt_fill(a, 64, 1);
	nt_fill(b, 64, 2);
	nt_status(store(ns, via, MUST_NOT_EXIST, &key, a, 64), NVME_SC_SUCCESS);
	nt_status(store(ns, via, MUST_NOT_EXIST, &key, b, 64),
		  NVME_SC_KV_KEY_EXISTS);
	nt_status(retrieve(ns, via, &key, got, 64, &size), NVME_SC_SUCCESS);
	nt_same(got, a, 64);
	nt_status(delete(ns, via, &key), NVME_SC_SUCCESS);
}

/* No Store does what both options ask for, whether the key exists or not. */
static void store_never(struct nt_ns *ns, enum nt_via via)
{
	struct nt_key key = make_key("never", 5);
	char *a = nt_alloc(64, 0), *b = nt_alloc(64, 0), *got = nt_alloc(64, 0);
	__u64 size;

	nt_fill(a, 64, 1);
	nt_fill(b, 64, 2);
	nt_status(store(ns, via, MUST_EXIST | MUST_NOT_EXIST, &key, a, 64),
		  NVME_SC_KV_NO_KEY);
	nt_status(store(ns, via, 0, &key, a, 64), NVME_SC_SUCCESS);
	nt_status(store(ns, via, MUST_EXIST | MUST_NOT_EXIST, &key, b, 64),
		  NVME_SC_KV_KEY_EXISTS);
	nt_status(retrieve(ns, via, &key, got, 64, &size), NVME_SC_SUCCESS);
	nt_same(got, a, 64);
	nt_status(delete(ns, via, &key), NVME_SC_SUCCESS);
}

/* Fewer bytes than the value has: its beginning, but its full size. */
static void retrieve_partial(struct nt_ns *ns, enum nt_via via)
{
	static const __u32 lens[] = { 4, 512, 1000, 4096, 8188 };
	struct nt_key key = make_key("partial", 7);
	char *value = nt_alloc(8192, 0);
	__u64 size;
	size_t i;

	nt_fill(value, 8192, 3);
	nt_status(store(ns, via, 0, &key, value, 8192), NVME_SC_SUCCESS);
	for (i = 0; i < ARRAY_SIZE(lens); i++) {
		char *got = nt_alloc(8192, 0), *poison = nt_alloc(8192, 0);

		nt_status(retrieve(ns, via, &key, got, lens[i], &size),
			  NVME_SC_SUCCESS);
		nt_eq(size, 8192);
		nt_same(got, value, lens[i]);
		nt_same(got + lens[i], poison, 8192 - lens[i]);
	}
	nt_status(retrieve(ns, via, &key, NULL, 0, &size), NVME_SC_SUCCESS);
	nt_eq(size, 8192);
	nt_status(delete(ns, via, &key), NVME_SC_SUCCESS);
}

/* More room than the value needs: the rest is left alone. */
static void retrieve_oversize(struct nt_ns *ns, enum nt_via via)
{
	static const __u32 lens[] = { 0, 1, 510, 4096, 5000 };
	struct nt_key key = make_key("oversize", 8);
	char *value = nt_alloc(5000, 0);
	__u64 size;
	size_t i;

	nt_fill(value, 5000, 4);
	for (i = 0; i < ARRAY_SIZE(lens); i++) {
		char *got = nt_alloc(16384, 0), *poison = nt_alloc(16384, 0);

		nt_status(store(ns, via, 0, &key, value, lens[i]),
			  NVME_SC_SUCCESS);
		nt_status(retrieve(ns, via, &key, got, 16384, &size),
			  NVME_SC_SUCCESS);
		nt_eq(size, lens[i]);
		nt_same(got, value, lens[i]);
		nt_same(got + lens[i], poison, 16384 - lens[i]);
	}
	nt_status(delete(ns, via, &key), NVME_SC_SUCCESS);
}

static void retrieve_missing(struct nt_ns *ns, enum nt_via via)
{
	struct nt_key key = make_key("nobody", 6);
	char *got = nt_alloc(512, 0), *poison = nt_alloc(512, 0);
	__u64 size;

	nt_status(retrieve(ns, via, &key, got, 512, &size), NVME_SC_KV_NO_KEY);
	nt_same(got, poison, 512);
}

/* Scalar buffers with any offset in the page, and a value in pieces. */
static void buffer_offsets(struct nt_ns *ns, enum nt_via via)
{
	static const __u32 offsets[] = { 4, 512, 2044, 4092, 1, 4095 };
	struct nt_key key = make_key("offset", 6);
	char *want = nt_alloc(10000, 0);
	__u64 size;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(offsets); i++) {
		char *value = nt_alloc(10000, offsets[i]);
		char *got = nt_alloc(10000, offsets[i]);

		nt_fill(want, 10000, i);
		memcpy(value, want, 10000);
		nt_status(store(ns, via, 0, &key, value, 10000),
			  NVME_SC_SUCCESS);
		nt_status(retrieve(ns, via, &key, got, 10000, &size),
			  NVME_SC_SUCCESS);
		nt_eq(size, 10000);
		nt_same(got, want, 10000);
	}
	nt_status(delete(ns, via, &key), NVME_SC_SUCCESS);
}

static void vectored(struct nt_ns *ns, enum nt_via via)
{
	static const __u32 parts[] = { 4096, 8192, 512, 1000 };
	struct nt_key key = make_key("vectored", 8);
	char *want = nt_alloc(13800, 0), *got = nt_alloc(13800, 0);
	struct iovec in[ARRAY_SIZE(parts)], out[ARRAY_SIZE(parts)];
	struct nvme_uring_cmd cmd = {
		.opcode = NVME_CMD_KV_STORE,
		.cdw2 = nt_le32(key.bytes),
		.cdw3 = nt_le32(key.bytes + 4),
		.addr = (uintptr_t)in,
		.data_len = ARRAY_SIZE(parts),
		.cdw10 = 13800,
		.cdw11 = key.len,
		.cdw14 = nt_le32(key.bytes + 8),
		.cdw15 = nt_le32(key.bytes + 12),
	};
	__u32 i, at = 0;
	__u64 size = -1;

	nt_fill(want, 13800, 5);
	for (i = 0; i < ARRAY_SIZE(parts); i++) {
		in[i].iov_base = nt_alloc(parts[i], 0);
		out[i].iov_base = nt_alloc(parts[i], 0);
		in[i].iov_len = parts[i];
		out[i].iov_len = parts[i];
		memcpy(in[i].iov_base, want + at, parts[i]);
		at += parts[i];
	}
	nt_status(nt_io_form(ns, via, NT_VEC, &cmd, NULL), NVME_SC_SUCCESS);
	nt_status(retrieve(ns, via, &key, got, 13800, &size), NVME_SC_SUCCESS);
	nt_eq(size, 13800);
	nt_same(got, want, 13800);

	cmd.opcode = NVME_CMD_KV_RETRIEVE;
	cmd.addr = (uintptr_t)out;
	nt_status(nt_io_form(ns, via, NT_VEC, &cmd, &size), NVME_SC_SUCCESS);
	nt_eq(size, 13800);
	for (i = 0, at = 0; i < ARRAY_SIZE(parts); at += parts[i++])
		nt_same(out[i].iov_base, want + at, parts[i]);
	nt_status(delete(ns, via, &key), NVME_SC_SUCCESS);
}

#define NR_KEYS 60

/* Keys of every length; empties the namespace before. */
static void store_keys(struct nt_ns *ns, enum nt_via via, struct nt_key *keys)
{
	__u32 i;

	nt_kv_empty(ns, via);
	for (i = 0; i < NR_KEYS; i++) {
		__u8 bytes[16];

		nt_fill(bytes, sizeof(bytes), i);
		keys[i].len = 1 + i % 16;
		memset(keys[i].bytes, 0, 16);
		memcpy(keys[i].bytes, bytes, keys[i].len);
		keys[i].bytes[0] = i;
		nt_status(store(ns, via, 0, &keys[i], &i, 4), NVME_SC_SUCCESS);
	}
}

static int find_key(const struct nt_key *keys, int n, const struct nt_key *key)
{
	int i;

	for (i = 0; i < n; i++)
		if (!memcmp(&keys[i], key, sizeof(*key)))
			return i;
	return -1;
}

static void list_empty(struct nt_ns *ns, enum nt_via via)
{
	unsigned char *list = nt_alloc(4096, 0);
	struct nt_key from = { 0 };

	nt_kv_empty(ns, via);
	nt_status(nt_kv(ns, via, NVME_CMD_KV_LIST, 0, &from, list, 4096, NULL),
		  NVME_SC_SUCCESS);
	nt_eq(nt_le32(list), 0);
}

/* Each key exactly once, and twice the same order. */
static void list_all(struct nt_ns *ns, enum nt_via via)
{
	struct nt_key keys[NR_KEYS], a[NR_KEYS], b[NR_KEYS];
	int i, at, seen[NR_KEYS] = { 0 };

	store_keys(ns, via, keys);
	nt_eq(nt_kv_list(ns, via, NULL, a, NR_KEYS), NR_KEYS);
	nt_eq(nt_kv_list(ns, via, NULL, b, NR_KEYS), NR_KEYS);
	nt_same(b, a, sizeof(a));
	for (i = 0; i < NR_KEYS; i++) {
		at = find_key(keys, NR_KEYS, &a[i]);
		if (at < 0)
			nt_fail("List: entry %d is no key that was stored", i);
		nt_eq(seen[at]++, 0);
	}
	nt_kv_empty(ns, via);
}

/* From any key on: the rest of the whole list, that key first. */
static void list_from_key(struct nt_ns *ns, enum nt_via via)
{
	struct nt_key keys[NR_KEYS], all[NR_KEYS], rest[NR_KEYS];
	int i;

	store_keys(ns, via, keys);
	nt_eq(nt_kv_list(ns, via, NULL, all, NR_KEYS), NR_KEYS);
	for (i = 0; i < NR_KEYS; i++) {
		nt_eq(nt_kv_list(ns, via, &all[i], rest, NR_KEYS), NR_KEYS - i);
		nt_same(rest, all + i, (NR_KEYS - i) * sizeof(*rest));
	}
	nt_kv_empty(ns, via);
}

/* Exactly the whole keys that fit, counted; nothing after them. */
static void list_truncated(struct nt_ns *ns, enum nt_via via)
{
	struct nt_key keys[NR_KEYS], all[NR_KEYS], from = { 0 };
	unsigned char *poison = nt_alloc(4096, 0);
	__u32 len, i, fits, at;

	store_keys(ns, via, keys);
	nt_eq(nt_kv_list(ns, via, NULL, all, NR_KEYS), NR_KEYS);
	for (len = 4; len <= 104; len += 4) {
		unsigned char *list = nt_alloc(4096, 0);

		for (fits = 0, at = 4; fits < NR_KEYS; fits++) {
			__u32 entry = (2 + all[fits].len + 3) & ~3U;

			if (at + entry > len)
				break;
			at += entry;
		}
		nt_status(nt_kv(ns, via, NVME_CMD_KV_LIST, 0, &from, list, len,
				NULL), NVME_SC_SUCCESS);
		nt_eq(nt_le32(list), fits);
		nt_same(list + at, poison, 4096 - at);
		for (i = 0, at = 4; i < fits; i++) {
			nt_eq(nt_le16(list + at), all[i].len);
			nt_same(list + at + 2, all[i].bytes, all[i].len);
			at += (2 + all[i].len + 3) & ~3U;
		}
	}
	nt_kv_empty(ns, via);
}

/* Deleting a key leaves the others and their values. */
static void delete_existing(struct nt_ns *ns, enum nt_via via)
{
	struct nt_key keys[NR_KEYS], left[NR_KEYS];
	__u32 i, value;
	__u64 size;

	store_keys(ns, via, keys);
	for (i = 0; i < NR_KEYS; i += 3)
		nt_status(delete(ns, via, &keys[i]), NVME_SC_SUCCESS);
	for (i = 0; i < NR_KEYS; i++) {
		value = -1;
		nt_status(exist(ns, via, &keys[i]),
			  i % 3 ? NVME_SC_SUCCESS : NVME_SC_KV_NO_KEY);
		nt_status(retrieve(ns, via, &keys[i], &value, 4, &size),
			  i % 3 ? NVME_SC_SUCCESS : NVME_SC_KV_NO_KEY);
		if (i % 3)
			nt_eq(value, i);
	}
	nt_eq(nt_kv_list(ns, via, NULL, left, NR_KEYS),
	      NR_KEYS - NR_KEYS / 3);
	nt_kv_empty(ns, via);
}

static int set_kv_config(struct nt_ns *ns, enum nt_via via, __u32 value)
{
	struct nvme_uring_cmd cmd = {
		.opcode = NVME_ADMIN_SET_FEATURES,
		.nsid = ns->nsid,
		.cdw10 = FEATURE_KV_CONFIG,
		.cdw11 = value,
	};

	return nt_admin(ns, via, &cmd, NULL);
}

static int get_kv_config(struct nt_ns *ns, enum nt_via via, __u64 *value)
{
	struct nvme_uring_cmd cmd = {
		.opcode = NVME_ADMIN_GET_FEATURES,
		.nsid = ns->nsid,
		.cdw10 = FEATURE_KV_CONFIG,
	};

	*value = -1;
	return nt_admin(ns, via, &cmd, value);
}

/* Success, or an error where the Key Value Configuration feature asks for it. */
static void delete_missing(struct nt_ns *ns, enum nt_via via)
{
	struct nt_key key = make_key("missing", 7);
	__u64 before, value;
	int on, off, restored;

	nt_status(get_kv_config(ns, via, &before), NVME_SC_SUCCESS);
	nt_status(set_kv_config(ns, via, 0), NVME_SC_SUCCESS);
	off = delete(ns, via, &key);
	nt_status(set_kv_config(ns, via, DELETE_MISSING_FAILS),
		  NVME_SC_SUCCESS);
	nt_status(get_kv_config(ns, via, &value), NVME_SC_SUCCESS);
	on = delete(ns, via, &key);
	restored = set_kv_config(ns, via, before);

	nt_status(off, NVME_SC_SUCCESS);
	nt_eq(value, DELETE_MISSING_FAILS);
	nt_status(on, NVME_SC_KV_NO_KEY);
	nt_status(restored, NVME_SC_SUCCESS);
}

static void exist_missing(struct nt_ns *ns, enum nt_via via)
{
	struct nt_key key = make_key("nowhere", 7);

	nt_status(exist(ns, via, &key), NVME_SC_KV_NO_KEY);
}

/* One key more than the format allows, and room again after a delete. */
static void too_many_keys(struct nt_ns *ns, enum nt_via via)
{
	unsigned char id[4096];
	struct nt_key key = { .len = 4 };
	__u32 i, max;

	nt_status(nt_identify(ns->dev.fd, NVME_ID_CNS_CS_NS, NVME_CSI_KV,
			      ns->nsid, id), NVME_SC_SUCCESS);
	max = nt_le32(id + 72 + (id[29] & 0xf) * 16 + 8);
	if (!max || max > 4000)
		nt_skip("the format allows %s keys",
			max ? "more than 4000" : "any number of");
	nt_kv_empty(ns, via);
	for (i = 0; i < max; i++) {
		memcpy(key.bytes, &i, 4);
		nt_status(store(ns, via, 0, &key, &i, 4), NVME_SC_SUCCESS);
	}
	memcpy(key.bytes, &i, 4);
	nt_status(store(ns, via, 0, &key, &i, 4), NVME_SC_CAP_EXCEEDED);
	nt_status(exist(ns, via, &key), NVME_SC_KV_NO_KEY);
	i = 0;
	memcpy(key.bytes, &i, 4);
	nt_status(store(ns, via, 0, &key, &i, 4), NVME_SC_SUCCESS);
	nt_status(delete(ns, via, &key), NVME_SC_SUCCESS);
	i = max;
	memcpy(key.bytes, &i, 4);
	nt_status(store(ns, via, 0, &key, &i, 4), NVME_SC_SUCCESS);
	nt_kv_empty(ns, via);
}

static const struct nt_case cases[] = {
	{ "store_retrieve", store_retrieve },
	{ "key_lengths", key_lengths },
	{ "key_identity", key_identity },
	{ "key_length_0", key_length_0 },
	{ "key_length_17", key_length_17 },
	{ "value_sizes", value_sizes },
	{ "value_max", value_max },
	{ "value_max_plus_1", value_max_plus_1 },
	{ "store_replaces", store_replaces },
	{ "store_must_exist", store_must_exist },
	{ "store_must_not_exist", store_must_not_exist },
	{ "store_never", store_never },
	{ "retrieve_partial", retrieve_partial },
	{ "retrieve_oversize", retrieve_oversize },
	{ "retrieve_missing", retrieve_missing },
	{ "buffer_offsets", buffer_offsets },
	{ "vectored", vectored },
	{ "list_empty", list_empty },
	{ "list_all", list_all },
	{ "list_from_key", list_from_key },
	{ "list_truncated", list_truncated },
	{ "delete_existing", delete_existing },
	{ "delete_missing", delete_missing },
	{ "exist_missing", exist_missing },
	{ "too_many_keys", too_many_keys },
};

int main(int argc, char **argv)
{
	static const struct nt_prog prog = {
		.what = "Test the commands of Key Value namespaces.",
		.wants = "Key Value",
		.fits = is_kv,
	};

	return nt_run(argc, argv, &prog, cases, ARRAY_SIZE(cases));
}
