// SPDX-License-Identifier: GPL-2.0
/* Key Value pairs outlive a restart: write, restart, verify. */
#include <stdio.h>
#include <stdlib.h>

#include "nvme_test.h"

#define NR_KEYS 90

static enum { NONE, WRITE, VERIFY } phase;

static bool option(const char *arg)
{
	if (!strcmp(arg, "--write"))
		phase = WRITE;
	else if (!strcmp(arg, "--verify"))
		phase = VERIFY;
	else
		return false;
	return true;
}

static bool is_kv(const struct nt_ns *ns)
{
	return ns->csi == NVME_CSI_KV;
}

/* Of every third key the value was replaced, every fifth was deleted. */
static bool is_deleted(unsigned int i)
{
	return i % 5 == 0;
}

static unsigned int last_version(unsigned int i)
{
	return i % 3 == 0;
}

static struct nt_key make_key(unsigned int i)
{
	struct nt_key key = { .len = 2 + i % 15 };

	nt_fill(key.bytes, key.len, i);
	key.bytes[0] = 'p';
	key.bytes[1] = i;
	return key;
}

static __u32 make_value(unsigned int i, unsigned int version, char *value)
{
	__u32 len = (i * 401 + version * 4096) % 20000;

	nt_fill(value, len, i * 2 + version);
	return len;
}

static void write_pair(struct nt_ns *ns, unsigned int i, unsigned int version)
{
	struct nt_key key = make_key(i);
	char *value = nt_alloc(20000, 0);
	__u32 len = make_value(i, version, value);

	nt_status(nt_kv(ns, NT_URING, NVME_CMD_KV_STORE, 0, &key, value, len,
			NULL), NVME_SC_SUCCESS);
}

static void write_all(void *arg)
{
	struct nt_ns *ns = arg;
	struct nt_key key;
	unsigned int i;

	nt_kv_empty(ns, NT_URING);
	for (i = 0; i < NR_KEYS; i++)
		write_pair(ns, i, 0);
	for (i = 0; i < NR_KEYS; i++) {
		key = make_key(i);
		if (last_version(i))
			write_pair(ns, i, 1);
		if (is_deleted(i))
			nt_status(nt_kv(ns, NT_URING, NVME_CMD_KV_DELETE, 0,
					&key, NULL, 0, NULL), NVME_SC_SUCCESS);
	}
}

static void verify_all(void *arg)
{
	char *want = nt_alloc(20000, 0), *got = nt_alloc(20000, 0);
	struct nt_key keys[NR_KEYS];
	struct nt_ns *ns = arg;
	unsigned int i, left = 0;
	__u64 size;
	__u32 len;

	for (i = 0; i < NR_KEYS; i++) {
		struct nt_key key = make_key(i);
		int ret = nt_kv(ns, NT_URING, NVME_CMD_KV_RETRIEVE, 0, &key,
				got, 20000, &size);

		if (is_deleted(i)) {
			nt_status(ret, NVME_SC_KV_NO_KEY);
			continue;
		}
		nt_status(ret, NVME_SC_SUCCESS);
		len = make_value(i, last_version(i), want);
		nt_eq(size, len);
		nt_same(got, want, len);
		left++;
	}
	nt_eq(nt_kv_list(ns, NT_URING, NULL, keys, NR_KEYS), left);
}

int main(int argc, char **argv)
{
	static const struct nt_prog prog = {
		.what = "Test that Key Value pairs outlive a restart.",
		.wants = "Key Value",
		.fits = is_kv,
		.usage = "  --write    before the restart: write known pairs\n"
			 "  --verify   after it: exactly these must be there",
		.option = option,
	};
	struct nt_ns *ns;
	size_t i, n;

	nt_init(argc, argv, &prog);
	if (phase == NONE) {
		fprintf(stderr, "kv_persist: name --write or --verify (see --help)\n");
		return 2;
	}
	ns = nt_namespaces(&n);
	nt_plan(n);
	for (i = 0; i < n; i++)
		nt_test(phase == WRITE ? write_all : verify_all, &ns[i],
			"%s %s", ns[i].name,
			phase == WRITE ? "write" : "verify");
	return nt_end();
}
