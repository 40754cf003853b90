// SPDX-License-Identifier: GPL-2.0
/*
 * The controller posts the completion of a command twice, late or never.  No
 * other command ends by that, and each ends once.
 *
 * The second completion comes when its identifier is in use again, by a command
 * that has not completed yet: as many are in flight as the queue of a ring has.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "region.h"
#include "watch.h"

#define BLOCK		512
#define MAX		1024	/* commands */
#define TIMEOUT		1000	/* ms, of commands that have one */
#define PATIENCE	60000	/* ms */
#define FOR_EVER	htole32(600000)

/* status of a command that was aborted */
#define SC_ABORTED	0x007

/**
 * struct way - how commands reach the controller
 * @name: for the names of cases
 * @setup: IORING_SETUP_* flags
 * @region: their buffers are in a region
 */
struct way {
	const char *name;
	unsigned int setup;
	bool region;
};

static const struct way ways[] = {
	{ "plain", 0, false },
	{ "polled plain", IORING_SETUP_IOPOLL, false },
	{ "region", 0, true },
	{ "polled region", IORING_SETUP_IOPOLL, true },
};

static struct nt_ns *ns;
static struct nt_ring ring;
static unsigned char *mem, *want;
static __u32 region;
static unsigned int depth;	/* commands that a queue has in flight */
static const char *only = "";

static void find_depth(void)
{
	const char *name = strrchr(ns->dev.path, '/') + 3;
	char path[PATH_MAX];
	FILE *f;

	snprintf(path, sizeof(path), "/sys/block/nvme%s/queue/nr_requests",
		 name);
	f = fopen(path, "r");
	if (!f || fscanf(f, "%u", &depth) != 1)
		nt_die("cannot read %s: %m", path);
	fclose(f);
	if (!depth || depth > MAX)
		nt_die("%u requests in %s", depth, path);
}

/* Read block @i to the piece of the memory with that number. */
static void put(const struct way *w, unsigned int i, __u32 timeout_ms)
{
	struct nvme_uring_cmd cmd;

	nt_place_cmd(ns, 0, false, BLOCK, &cmd);
	cmd.cdw10 = i;
	cmd.addr = i * BLOCK + (w->region ? 0 : (uintptr_t)mem);
	cmd.data_len = BLOCK;
	cmd.timeout_ms = timeout_ms;
	if (w->region)
		nt_region_put(&ring, ns->dev.fd, NVME_NG_URING_CMD_IO, &cmd,
			      region, 0);
	else
		nt_ring_put(&ring, ns->dev.fd, NVME_URING_CMD_IO,
			    NT_UNREGISTERED, &cmd);
}

/* @n reads, the first is of block @first. */
static void submit(const struct way *w, unsigned int first, unsigned int n,
		   __u32 timeout_ms)
{
	unsigned int i;

	memset(mem + first * BLOCK, NT_POISON, n * BLOCK);
	for (i = first; i < first + n; i++)
		put(w, i, timeout_ms);
	nt_ring_submit(&ring);
}

static int reap(void)
{
	unsigned int name;
	int res;

	if (!nt_ring_reap(&ring, PATIENCE, &name, &res))
		nt_die("%u commands did not complete within %d s", ring.flying,
		       PATIENCE / 1000);
	return res < 0 ? res : res & NVME_SC_MASK;
}

static void good(unsigned int first, unsigned int n)
{
	nt_same(mem + first * BLOCK, want + first * BLOCK, n * BLOCK);
}

static void reap_good(unsigned int first, unsigned int n)
{
	unsigned int i;

	for (i = 0; i < n; i++)
		nt_status(reap(), NVME_SC_SUCCESS);
	good(first, n);
}

static void start(const struct way *w)
{
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(0, &cpus);
	if (sched_setaffinity(0, sizeof(cpus), &cpus))
		nt_fail("cannot stay on a processor: %m");
	mem = nt_alloc(MAX * BLOCK, 0);
	want = nt_alloc(MAX * BLOCK, 0);
	nt_fill(want, MAX * BLOCK, 1);
	nt_faults(ns->ctrl.fd, NULL, 0);
	nt_status(nt_rw(ns, NT_IOCTL, NVME_CMD_WRITE, 0, MAX, want, NULL, NULL),
		  NVME_SC_SUCCESS);
	nt_ring_open(&ring, MAX, w->setup);
	if (w->region)
		nt_status(nt_map(ns->dev.fd, 0, mem, MAX * BLOCK, &region), 0);
}

static void stop(const struct way *w)
{
	nt_ring_quiet(&ring);
	nt_ring_close(&ring);
	if (w->region)
		nt_status(nt_unmap(ns->dev.fd, region), 0);
	nt_faults(ns->ctrl.fd, NULL, 0);
}

/*
 * A completion is posted again, when every identifier is in use.  First it was
 * that of a command that completed, or that was aborted.
 */
static void again(const struct way *w, bool aborted)
{
	struct nt_fault faults[] = {
		{ .rule.opcode = NVME_CMD_READ, .rule.count = htole32(1),
		  .flags = htole16(NT_AGAIN), .again_ms = FOR_EVER },
		{ .rule.opcode = NVME_CMD_READ, .rule.delay_ms = FOR_EVER },
	};
	unsigned int n = depth, name, i;
	int res;

	if (aborted) {
		faults[0].flags = htole16(NT_AGAIN | NT_AFTER);
		faults[0].rule.delay_ms = FOR_EVER;
	}
	start(w);
	nt_faults(ns->ctrl.fd, faults, ARRAY_SIZE(faults));
	submit(w, 0, 1, aborted ? TIMEOUT : 0);
	nt_status(reap(), aborted ? SC_ABORTED : NVME_SC_SUCCESS);
	good(0, 1);

	submit(w, 0, n, 0);
	nt_log_room("invalid id");
	nt_log_mark();
	nt_raise(ns->ctrl.fd, NT_RAISE_AGAIN);
	for (i = 0; !nt_log_has("invalid id"); i++) {
		if (nt_ring_reap(&ring, 10, &name, &res))
			nt_fail("command %u ended with %d by the completion of another",
				name, res);
		if (i == PATIENCE / 10)
			nt_die("no second completion within %d s",
			       PATIENCE / 1000);
	}
	nt_faults(ns->ctrl.fd, NULL, 0);
	nt_raise(ns->ctrl.fd, NT_RAISE_WAKE);
	reap_good(0, n);
	stop(w);
}

static void run_again(void *arg)
{
	again(arg, false);
}

static void run_aborted(void *arg)
{
	again(arg, true);
}

/* Each completion is posted twice at once. */
static void run_twice(void *arg)
{
	const struct nt_fault twice = {
		.rule.opcode = NVME_CMD_READ,
		.flags = htole16(NT_AGAIN),
	};
	const struct way *w = arg;
	unsigned int i;

	start(w);
	nt_faults(ns->ctrl.fd, &twice, 1);
	for (i = 0; i < 32; i++) {
		submit(w, i * 8, 64, 0);
		reap_good(i * 8, 64);
	}
	submit(w, 0, depth, 0);
	reap_good(0, depth);
	stop(w);
}

/* It comes after the controller said that it did not abort the command. */
static void run_held(void *arg)
{
	const struct nt_fault hold = {
		.rule.opcode = NVME_CMD_READ,
		.rule.count = htole32(1),
		.flags = htole16(NT_HOLD),
	};
	const struct way *w = arg;

	start(w);
	nt_faults(ns->ctrl.fd, &hold, 1);
	nt_log_room(" timeout, ");
	nt_log_mark();
	submit(w, 0, 1, TIMEOUT);
	reap_good(0, 1);
	nt_eq(nt_log_has("aborting"), true);
	nt_eq(nt_log_has("reset controller"), false);
	submit(w, 0, 8, 0);
	reap_good(0, 8);
	stop(w);
}

/* It never comes: an Abort does not help, a reset ends the command. */
static void run_lost(void *arg)
{
	const struct nt_fault lose = {
		.rule.opcode = NVME_CMD_READ,
		.rule.count = htole32(1),
		.skip = htole32(3),
		.flags = htole16(NT_LOSE),
	};
	const struct way *w = arg;
	unsigned int i;
	int status;

	start(w);
	nt_faults(ns->ctrl.fd, &lose, 1);
	submit(w, 0, 8, TIMEOUT);
	for (i = 0; i < 7; i++)
		nt_status(reap(), NVME_SC_SUCCESS);
	status = reap();
	if (!status)
		nt_fail("a command that never completed succeeded");
	/* it was executed */
	good(0, 8);
	for (i = 0; i < PATIENCE / 100; i++) {
		submit(w, 0, 1, 0);
		status = reap();
		if (!status)
			break;
		usleep(100000);
	}
	nt_status(status, NVME_SC_SUCCESS);
	good(0, 1);
	stop(w);
}

static bool fits(const struct nt_ns *n)
{
	return n->testbed && !strcmp(n->dev.serial, "NVMENG-B") &&
	       n->csi == NVME_CSI_NVM && n->lba_size == BLOCK && !n->ms;
}

static bool option(const char *arg)
{
	if (strncmp(arg, "--only=", 7))
		return false;
	only = arg + 7;
	return true;
}

static const struct {
	const char *name;
	void (*run)(void *arg);
} tests[] = {
	{ "again", run_again },
	{ "aborted, again", run_aborted },
	{ "twice at once", run_twice },
	{ "held", run_held },
	{ "lost", run_lost },
};

int main(int argc, char **argv)
{
	static const struct nt_prog prog = {
		.what = "Test what completions that are wrong do.",
		.wants = "NVM (512-byte blocks) test bed",
		.fits = fits,
		.usage = "  --only=WORD  cases with WORD in their names\n",
		.option = option,
	};
	char names[ARRAY_SIZE(tests)][ARRAY_SIZE(ways)][64];
	size_t i, j, n, nr = 0;

	nt_init(argc, argv, &prog);
	ns = nt_namespaces(&n);
	find_depth();
	for (i = 0; i < ARRAY_SIZE(tests); i++)
		for (j = 0; j < ARRAY_SIZE(ways); j++) {
			snprintf(names[i][j], sizeof(names[i][j]), "%s, %s",
				 tests[i].name, ways[j].name);
			nr += !!strstr(names[i][j], only);
		}
	nt_plan(nr);
	for (i = 0; i < ARRAY_SIZE(tests); i++)
		for (j = 0; j < ARRAY_SIZE(ways); j++)
			if (strstr(names[i][j], only))
				nt_test(tests[i].run, (void *)&ways[j],
					"%s %s", ns->name, names[i][j]);
	return nt_end();
}
