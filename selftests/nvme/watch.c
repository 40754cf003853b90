// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "watch.h"

/* vendor specific feature of the test bed's controllers */
#define FEATURE_INJECT	0xc0
#define FEATURE_OOB	0xc1
#define FEATURE_FAULT	0xc2
#define FEATURE_EVENT	0xc3

/* of a command that was not sent, because the controller was not ready */
#define SC_HOST_PATH	0x370

static int log_fd = -1;
static unsigned long pins;

/* What is in the kernel log so far is not ours. */
void nt_log_mark(void)
{
	if (log_fd < 0)
		log_fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (log_fd < 0)
		nt_die("cannot open /dev/kmsg: %m");
	lseek(log_fd, 0, SEEK_END);
}

/* Nothing has been logged since. */
void nt_log_quiet(void)
{
	char record[8192];
	unsigned int n = 0;
	ssize_t len;

	for (;;) {
		len = read(log_fd, record, sizeof(record) - 1);
		if (len < 0 && errno == EAGAIN)
			break;
		/* EPIPE: records were overwritten */
		if (len <= 0 && errno != EPIPE)
			nt_fail("cannot read /dev/kmsg: %m");
		record[len > 0 ? len : 0] = '\0';
		if (n++ < 10)
			nt_note("logged: %.*s", (int)strcspn(record, "\n"),
				record);
	}
	nt_eq(n, 0);
}

/* Has a line with @text been logged?  It is looked at once. */
bool nt_log_has(const char *text)
{
	char record[8192];
	ssize_t len;

	for (;;) {
		len = read(log_fd, record, sizeof(record) - 1);
		if (len < 0 && errno == EAGAIN)
			return false;
		/* EPIPE: records were overwritten */
		if (len <= 0 && errno != EPIPE)
			nt_fail("cannot read /dev/kmsg: %m");
		record[len > 0 ? len : 0] = '\0';
		if (strstr(record, text))
			return true;
	}
}

/*
 * The driver says a thing ten times in 5 s at most.  Wait until it said @text so
 * rarely that it says it again.
 */
void nt_log_room(const char *text)
{
	unsigned long long stamp;
	char record[8192];
	unsigned int n, tries = 0;
	ssize_t len;
	int fd;

	do {
		struct timespec now;

		fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
		if (fd < 0)
			nt_die("cannot open /dev/kmsg: %m");
		clock_gettime(CLOCK_MONOTONIC, &now);
		for (n = 0;;) {
			len = read(fd, record, sizeof(record) - 1);
			if (len < 0 && errno == EPIPE)
				continue;
			if (len <= 0)
				break;
			record[len] = '\0';
			/* level, number and time in us */
			if (strstr(record, text) &&
			    sscanf(record, "%*u,%*u,%llu", &stamp) == 1 &&
			    stamp / 1000000 + 8 >=
			    (unsigned long long)now.tv_sec)
				n++;
		}
		close(fd);
		if (n > 7)
			usleep(100000);
	} while (n > 7 && tries++ < 600);
}

/* Pages that are pinned for DMA now. */
unsigned long nt_pins(void)
{
	long acquired = -1, released = -1, value;
	char name[64];
	FILE *f;

	/* each processor counts for itself at first */
	f = fopen("/proc/sys/vm/stat_refresh", "w");
	if (!f || fputs("1\n", f) < 0 || fclose(f))
		nt_die("cannot write /proc/sys/vm/stat_refresh: %m");
	f = fopen("/proc/vmstat", "r");
	if (!f)
		nt_die("cannot open /proc/vmstat: %m");
	while (fscanf(f, "%63s %ld", name, &value) == 2) {
		if (!strcmp(name, "nr_foll_pin_acquired"))
			acquired = value;
		else if (!strcmp(name, "nr_foll_pin_released"))
			released = value;
	}
	fclose(f);
	if (acquired < 0 || released < 0)
		nt_die("/proc/vmstat does not count pinned pages");
	return acquired - released;
}

/* What the programs before this one had pinned may still be on its way back. */
void nt_pins_mark(void)
{
	int same = 0;
	unsigned long now;

	pins = nt_pins();
	while (same < 10) {
		usleep(100000);
		now = nt_pins();
		same = now == pins ? same + 1 : 0;
		pins = now;
	}
}

/* A ring of a process that is gone lets go in its own time. */
void nt_pins_back(void)
{
	int i;

	for (i = 0; i < 300 && nt_pins() != pins; i++)
		usleep(100000);
	nt_eq(nt_pins(), pins);
}

static void unpinned(void *arg)
{
	(void)arg;
	nt_pins_back();
}

/* nt_pins_back() as the last test of a program. */
void nt_pins_test(void)
{
	nt_test(unpinned, NULL, "no page is still pinned");
}

/* Free pages that the processors keep at hand. */
static long at_hand_kb(void)
{
	FILE *f = fopen("/proc/zoneinfo", "r");
	long pages, sum = 0;
	char line[128];

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, " count: %ld", &pages) == 1)
			sum += pages;
	if (f)
		fclose(f);
	return sum * (NT_PAGE >> 10);
}

/*
 * Memory that is neither free nor a process's nor a cache of files: what the
 * kernel has for itself, and what nobody knows of.
 */
long nt_kernel_kb(void)
{
	static const char * const others[] = {
		"MemFree", "Buffers", "Cached", "SwapCached", "AnonPages",
		"SReclaimable", "KernelStack", "PageTables", "SecPageTables",
		"Hugetlb",
	};
	FILE *f = fopen("/proc/meminfo", "r");
	long kb, sum = 0;
	char name[64];
	size_t i;

	while (f && fscanf(f, "%63[^:]: %ld%*[^\n] ", name, &kb) == 2) {
		if (!strcmp(name, "MemTotal"))
			sum += kb;
		for (i = 0; i < ARRAY_SIZE(others); i++)
			if (!strcmp(name, others[i]))
				sum -= kb;
	}
	if (!f || sum <= 0)
		nt_die("cannot make sense of /proc/meminfo");
	fclose(f);
	return sum - at_hand_kb();
}

/* Memory of this process that is pinned for long, as drivers account for it. */
unsigned long nt_pinned_kb(void)
{
	FILE *f = fopen("/proc/self/status", "r");
	unsigned long kb = -1UL;
	char line[256];

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "VmPin: %lu kB", &kb) == 1)
			break;
	if (f)
		fclose(f);
	if (kb == -1UL)
		nt_die("no VmPin in /proc/self/status");
	return kb;
}

__u32 nt_oob(int ctrl_fd)
{
	struct nvme_uring_cmd cmd = {
		.opcode = NVME_ADMIN_GET_FEATURES,
		.cdw10 = FEATURE_OOB,
	};
	__u64 result;

	nt_status(nt_dev_ioctl(ctrl_fd, NVME_IOCTL_ADMIN64_CMD, &cmd, &result),
		  NVME_SC_SUCCESS);
	return result;
}

void nt_oob_reset(int ctrl_fd)
{
	struct nvme_uring_cmd cmd = {
		.opcode = NVME_ADMIN_SET_FEATURES,
		.cdw10 = FEATURE_OOB,
	};

	nt_status(nt_dev_ioctl(ctrl_fd, NVME_IOCTL_ADMIN64_CMD, &cmd, NULL),
		  NVME_SC_SUCCESS);
}

/* The only rule from now on, or none. */
void nt_inject(int ctrl_fd, const struct nt_rule *rule)
{
	static struct nt_rule rules[256];
	struct nvme_uring_cmd cmd = {
		.opcode = NVME_ADMIN_SET_FEATURES,
		.addr = (uintptr_t)rules,
		.data_len = sizeof(rules),
		.cdw10 = FEATURE_INJECT,
	};

	memset(rules, 0, sizeof(rules));
	if (rule)
		rules[0] = *rule;
	nt_status(nt_dev_ioctl(ctrl_fd, NVME_IOCTL_ADMIN64_CMD, &cmd, NULL),
		  NVME_SC_SUCCESS);
}

/* A case may have the controller reset, and end before that does. */
static void set_feature(int ctrl_fd, const struct nvme_uring_cmd *cmd)
{
	int status, tries = 0;

	do {
		status = nt_dev_ioctl(ctrl_fd, NVME_IOCTL_ADMIN64_CMD, cmd,
				      NULL);
		if (status == SC_HOST_PATH)
			usleep(100000);
	} while (status == SC_HOST_PATH && ++tries < 200);
	nt_status(status, NVME_SC_SUCCESS);
}

/* The only rules from now on. */
void nt_faults(int ctrl_fd, const struct nt_fault *faults, unsigned int n)
{
	static struct nt_fault all[64];
	struct nvme_uring_cmd cmd = {
		.opcode = NVME_ADMIN_SET_FEATURES,
		.addr = (uintptr_t)all,
		.data_len = sizeof(all),
		.cdw10 = FEATURE_FAULT,
	};

	memset(all, 0, sizeof(all));
	if (n)
		memcpy(all, faults, n * sizeof(*faults));
	set_feature(ctrl_fd, &cmd);
}

void nt_raise(int ctrl_fd, __u32 what)
{
	struct nvme_uring_cmd cmd = {
		.opcode = NVME_ADMIN_SET_FEATURES,
		.cdw10 = FEATURE_EVENT,
		.cdw11 = what,
	};

	set_feature(ctrl_fd, &cmd);
}
