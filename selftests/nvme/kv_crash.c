// SPDX-License-Identifier: GPL-2.0
/*
 * A crash in mid-store loses no earlier pair: store without an end until the
 * device is killed, then verify. What was begun and what was done is in a file
 * that outlives the crash.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "nvme_test.h"

#define PROCESSES 2	/* per namespace */
#define KEYS 8		/* per process */
#define MAX_LEN (256 << 10)

/* Versions of a value: the one stored last is from done to begun. */
struct progress {
	__u32 begun;
	__u32 done;
};

static enum { NONE, STORE, VERIFY } phase;
static const char *path;
static int fd;

static bool option(const char *arg)
{
	if (!strncmp(arg, "--store=", 8))
		phase = STORE;
	else if (!strncmp(arg, "--verify=", 9))
		phase = VERIFY;
	else
		return false;
	path = strchr(arg, '=') + 1;
	return true;
}

static bool is_kv(const struct nt_ns *ns)
{
	return ns->csi == NVME_CSI_KV;
}

static void get_progress(unsigned int id, struct progress *p)
{
	memset(p, 0, sizeof(*p));
	if (pread(fd, p, sizeof(*p), id * sizeof(*p)) < 0)
		nt_die("%s: %m", path);
}

static void put_progress(unsigned int id, const struct progress *p)
{
	if (pwrite(fd, p, sizeof(*p), id * sizeof(*p)) != sizeof(*p))
		nt_die("%s: %m", path);
}

static struct nt_key make_key(unsigned int id)
{
	struct nt_key key = { .len = 8, .bytes = "crash" };

	key.bytes[7] = id;
	return key;
}

/* Each page tells key, version and place. */
static __u32 make_value(unsigned int id, __u32 version, char *value)
{
	__u32 len = NT_PAGE + (id * 40009 + version * 70001) % (MAX_LEN - NT_PAGE);
	__u32 at;

	nt_fill(value, NT_PAGE, (__u64)id << 32 | version);
	for (at = NT_PAGE; at < len; at += NT_PAGE) {
		memcpy(value + at, value, NT_PAGE);
		memcpy(value + at, &at, sizeof(at));
	}
	return len;
}

/* Replace the keys from @first on in turn, for ever. */
static void store(struct nt_ns *ns, unsigned int first)
{
	char *value = nt_alloc(MAX_LEN, 0);
	struct progress p[KEYS];
	unsigned int i;
	int ret;

	for (i = 0; i < KEYS; i++)
		get_progress(first + i, &p[i]);
	for (i = 0;; i = (i + 1) % KEYS) {
		struct nt_key key = make_key(first + i);
		__u32 len = make_value(first + i, ++p[i].begun, value);

		put_progress(first + i, &p[i]);
		ret = nt_kv(ns, NT_URING, NVME_CMD_KV_STORE, 0, &key, value,
			    len, NULL);
		if (ret)
			nt_die("%s: Store: %d", ns->name, ret);
		p[i].done = p[i].begun;
		put_progress(first + i, &p[i]);
	}
}

static void verify(void *arg)
{
	struct nt_ns *ns = ((struct nt_ns **)arg)[0];
	struct nt_ns *all = ((struct nt_ns **)arg)[1];
	unsigned int first = (ns - all) * PROCESSES * KEYS, i;
	unsigned int stored = 0, pending = 0, replaced = 0;
	char *got = nt_alloc(MAX_LEN, 0), *want = nt_alloc(MAX_LEN, 0);

	for (i = first; i < first + PROCESSES * KEYS; i++) {
		struct nt_key key = make_key(i);
		struct progress p;
		__u32 version, len;
		__u64 size;
		int ret;

		get_progress(i, &p);
		ret = nt_kv(ns, NT_URING, NVME_CMD_KV_RETRIEVE, 0, &key, got,
			    MAX_LEN, &size);
		if (ret == NVME_SC_KV_NO_KEY && !p.done)
			continue;
		nt_status(ret, NVME_SC_SUCCESS);
		for (version = p.begun; version > p.done; version--) {
			len = make_value(i, version, want);
			if (size == len && !memcmp(got, want, len))
				break;
		}
		if (version == p.done) {
			nt_eq(size, make_value(i, version, want));
			nt_same(got, want, size);
		}
		stored++;
		pending += p.begun > p.done;
		replaced += version > p.done;
	}
	if (!stored)
		nt_fail("nothing had been stored");
	nt_note("%u pairs, %u in mid-store, %u of these have the new value",
		stored, pending, replaced);
}

int main(int argc, char **argv)
{
	static const struct nt_prog prog = {
		.what = "Test that a crash in mid-store loses no earlier pair.",
		.wants = "Key Value",
		.fits = is_kv,
		.usage = "  --store=FILE   store until killed, keep account in FILE\n"
			 "  --verify=FILE  after it: what FILE promises must be there",
		.option = option,
	};
	struct nt_ns *ns, *arg[2];
	size_t i, n;

	nt_init(argc, argv, &prog);
	if (phase == NONE) {
		fprintf(stderr, "kv_crash: name --store=FILE or --verify=FILE (see --help)\n");
		return 2;
	}
	ns = nt_namespaces(&n);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	if (fd < 0)
		nt_die("%s: %m", path);
	if (phase == STORE) {
		for (i = 0; i < n * PROCESSES; i++)
			if (!fork())
				store(&ns[i / PROCESSES], i * KEYS);
		puts("storing");
		wait(NULL);
		return 1;
	}
	nt_plan(n);
	for (i = 0; i < n; i++) {
		arg[0] = &ns[i];
		arg[1] = ns;
		nt_test(verify, arg, "%s", ns[i].name);
	}
	return nt_end();
}
