// SPDX-License-Identifier: GPL-2.0
/*
 * A polled ring has a queue pair of its own: its commands need no request,
 * which the kernel traces for each that has one.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "region.h"

#define TRACING		"/sys/kernel/tracing"
#define INSTANCE	TRACING "/instances/nvme_ring_queue"
#define SETUP_CMD	INSTANCE "/events/nvme/nvme_setup_cmd"

#define COUNT		64
#define PIECE		4096
#define FEAT_BUF_DMA	0x40000	/* IORING_FEAT_BUF_DMA */

struct arg {
	struct nt_ns *ns;
	const struct nt_mode *mode;
	bool fixed;
};

static struct nt_ring ring;

static bool tell(const char *path, const char *text)
{
	FILE *file = fopen(path, "w");
	bool ok = file && fputs(text, file) >= 0;

	return file && !fclose(file) && ok;
}

static void end_tracing(void)
{
	rmdir(INSTANCE);
}

/* In an instance, to leave alone what others trace. */
static void start_tracing(void)
{
	if (access(TRACING "/instances", F_OK) &&
	    mount("tracefs", TRACING, "tracefs", 0, NULL))
		nt_skip_all("there is no tracefs: %m");
	if (mkdir(INSTANCE, 0700) && errno != EEXIST)
		nt_skip_all("cannot trace: %m");
	atexit(end_tracing);
	if (!tell(SETUP_CMD "/filter", "qid != 0 && opcode == 2") ||
	    !tell(SETUP_CMD "/enable", "1"))
		nt_skip_all("this kernel does not trace NVMe commands");
}

/* Reads of this namespace that were requests. */
static unsigned int requests(const struct nt_ns *ns)
{
	FILE *file = fopen(INSTANCE "/trace", "r");
	char line[512], nsid[32];
	unsigned int n = 0;

	if (!file)
		nt_die("%s: %m", INSTANCE "/trace");
	snprintf(nsid, sizeof(nsid), "nsid=%u,", ns->nsid);
	while (fgets(line, sizeof(line), file))
		n += strstr(line, "nvme_setup_cmd:") && strstr(line, nsid);
	fclose(file);
	return n;
}

static void reads(struct nt_ns *ns, __u32 region, unsigned char *mem,
		  unsigned int n)
{
	struct nvme_uring_cmd cmd;
	unsigned int i, name;
	int res;

	for (i = 0; i < n; i++) {
		nt_place_cmd(ns, 0, false, PIECE, &cmd);
		cmd.addr = (__u64)i * PIECE + (uintptr_t)mem;
		cmd.data_len = PIECE;
		if (mem)
			nt_ring_put(&ring, ns->dev.fd, NVME_URING_CMD_IO, 0,
				    &cmd);
		else
			nt_region_put(&ring, ns->dev.fd, NVME_NG_URING_CMD_IO,
				      &cmd, region, 0);
	}
	nt_ring_submit(&ring);
	while (ring.flying) {
		if (!nt_ring_reap(&ring, 60000, &name, &res))
			nt_die("%u commands did not complete within 60 s",
			       ring.flying);
		nt_status(res, NVME_SC_SUCCESS);
	}
}

static void count(void *arg)
{
	struct arg *a = arg;
	unsigned char *mem = nt_alloc(COUNT * PIECE, 0);
	struct iovec iov = { mem, COUNT * PIECE };
	bool polled = a->mode->setup & IORING_SETUP_IOPOLL;
	__u32 region = 0;

	nt_ring_open(&ring, COUNT, a->mode->setup);
	if (a->fixed)
		nt_eq(io_uring_register_buffers(&ring.ring, &iov, 1), 0);
	else
		nt_status(nt_map(a->ns->dev.fd, 0, mem, COUNT * PIECE,
				 &region), 0);
	/* the first command maps the buffer */
	reads(a->ns, region, a->fixed ? mem : NULL, 1);
	if (!tell(INSTANCE "/trace", ""))
		nt_die("cannot clear the trace: %m");
	reads(a->ns, region, a->fixed ? mem : NULL, COUNT);
	if (a->fixed && !(ring.ring.features & FEAT_BUF_DMA))
		polled = false;
	nt_eq(requests(a->ns), polled ? 0 : COUNT);
	nt_ring_close(&ring);
	if (!a->fixed)
		nt_status(nt_unmap(a->ns->dev.fd, region), 0);
}

static bool fits(const struct nt_ns *ns)
{
	return ns->csi == NVME_CSI_NVM && !ns->ms && ns->lba_size &&
	       ns->lba_size <= PIECE && nt_place_known(ns);
}

int main(int argc, char **argv)
{
	static const struct nt_prog prog = {
		.what = "Test that polled rings have queues of their own.",
		.wants = "without metadata",
		.fits = fits,
	};
	size_t n, i, mode;
	struct nt_ns *ns;
	int fixed;

	nt_init(argc, argv, &prog);
	ns = nt_namespaces(&n);
	start_tracing();
	nt_plan(n * NT_MODES * 2);
	for (i = 0; i < n; i++)
		for (mode = 0; mode < NT_MODES; mode++)
			for (fixed = 0; fixed < 2; fixed++) {
				struct arg a = { &ns[i], &nt_modes[mode], fixed };

				nt_test(count, &a, "%s %s %s", ns[i].name,
					nt_modes[mode].name,
					fixed ? "registered" : "region");
			}
	return nt_end();
}
