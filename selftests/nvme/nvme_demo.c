// SPDX-License-Identifier: GPL-2.0
/* Show every namespace, then use two of them through io_uring. */
#include <stdio.h>

#include "nvme_test.h"

static int failures;

static const char *command_set(const struct nt_ns *ns)
{
	switch (ns->csi) {
	case NVME_CSI_NVM:
		return "NVM";
	case NVME_CSI_KV:
		return "Key Value";
	case NVME_CSI_ZNS:
		return "Zoned";
	}
	return "unknown";
}

static void show(const struct nt_ns *ns)
{
	char format[64] = "", size[32] = "";
	__u64 bytes = ns->nsze;

	if (ns->lba_size) {
		bytes *= ns->lba_size;
		snprintf(format, sizeof(format), "%u", ns->lba_size);
		if (ns->ms)
			snprintf(format, sizeof(format), "%u + %u %s%s",
				 ns->lba_size, ns->ms,
				 ns->extended ? "extended" : "separate",
				 ns->pi ? ", PI" : "");
	}
	if (bytes)
		snprintf(size, sizeof(size), "%llu MiB", bytes >> 20);
	printf("%-12s %-10s %4u   %02xh %-10s %-20s %9s\n", ns->dev.path,
	       ns->dev.serial, ns->nsid, ns->csi, command_set(ns), format,
	       size);
}

static void report(const char *what, int status)
{
	if (status)
		failures++;
	printf("  %-10s %s", what, status ? "FAILED" : "ok");
	if (status < 0)
		printf(": %s\n", strerror(-status));
	else if (status)
		printf(": status %xh\n", status);
}

static void show_kv(struct nt_ns *ns)
{
	struct nt_key key = { .len = 5, .bytes = "hello" };
	char value[] = "stored and retrieved by io_uring", got[64] = "";
	__u64 size = 0;
	int ret;

	printf("\nKey Value, %s:\n", ns->dev.path);
	ret = nt_kv(ns, NT_URING, NVME_CMD_KV_STORE, 0, &key, value,
		    strlen(value), NULL);
	report("Store", ret);
	if (!ret)
		printf(", key \"%s\", value \"%s\"\n", key.bytes, value);
	ret = nt_kv(ns, NT_URING, NVME_CMD_KV_RETRIEVE, 0, &key, got,
		    sizeof(got) - 4, &size);
	report("Retrieve", ret);
	if (!ret)
		printf(", %llu bytes: \"%s\"\n", size, got);
	if (size != strlen(value) || strcmp(got, value)) {
		printf("  that is not what was stored\n");
		failures++;
	}
}

static void show_zns(struct nt_ns *ns)
{
	static char data[4096] = "appended by io_uring", got[4096];
	unsigned int blocks = sizeof(data) / ns->lba_size;
	__u64 lba = 0;
	int ret;

	printf("\nZoned, %s:\n", ns->dev.path);
	ret = nt_rw(ns, NT_URING, NVME_CMD_ZONE_APPEND, 0, blocks, data, NULL,
		    &lba);
	report("Append", ret);
	if (!ret)
		printf(", %u blocks to the first zone, at LBA %llu\n", blocks,
		       lba);
	ret = nt_rw(ns, NT_URING, NVME_CMD_READ, lba, blocks, got, NULL, NULL);
	report("Read", ret);
	if (!ret)
		printf(", %u blocks from LBA %llu: \"%s\"\n", blocks, lba, got);
	if (memcmp(got, data, sizeof(got))) {
		printf("  that is not what was appended\n");
		failures++;
	}
}

/* The first namespace of a command set. */
static struct nt_ns *first(struct nt_ns *ns, size_t n, __u8 csi)
{
	size_t i;

	for (i = 0; i < n; i++)
		if (ns[i].csi == csi && !ns[i].ms)
			return &ns[i];
	return NULL;
}

int main(int argc, char **argv)
{
	static const struct nt_prog prog = {
		.what = "Show the namespaces, and two of them at work.",
		.wants = "NVMe",
		/* those that lack something, too */
		.serial = "NVMENG-",
	};
	struct nt_ns *ns, *kv, *zns;
	size_t i, n;

	nt_init(argc, argv, &prog);
	ns = nt_namespaces(&n);
	printf("%-12s %-10s %4s   %-14s %-20s %9s\n", "node", "serial", "NSID",
	       "command set", "format (bytes)", "capacity");
	for (i = 0; i < n; i++)
		show(&ns[i]);
	kv = first(ns, n, NVME_CSI_KV);
	zns = first(ns, n, NVME_CSI_ZNS);
	if (kv)
		show_kv(kv);
	if (zns)
		show_zns(zns);
	return failures || !kv || !zns;
}
