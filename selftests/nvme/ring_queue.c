// SPDX-License-Identifier: GPL-2.0
/*
 * Commands of rings go to queue pairs that blk-mq does not know, wherever their
 * data is: they need no request, which the kernel traces for each that has one.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "region.h"
#include "watch.h"

#define TRACING		"/sys/kernel/tracing"
#define INSTANCE	TRACING "/instances/nvme_ring_queue"
#define SETUP_CMD	INSTANCE "/events/nvme/nvme_setup_cmd"

#define COUNT		64
#define PIECE		4096

/* where the data is */
enum { VECTOR, REGION, REGISTERED, PLAIN, SOURCES };

static const char * const sources[] = {
	"vector", "region", "registered", "plain",
};

struct arg {
	struct nt_ns *ns;
	const struct nt_mode *mode;
	int source;
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

/* Two pages of a region in the wrong order */
static void put_vector(struct nt_ns *ns, __u32 region, unsigned int i)
{
	static struct nvme_ng_segment seg[COUNT][2];
	struct nvme_uring_cmd cmd;

	nt_place_cmd(ns, 0, false, 2 * PIECE, &cmd);
	seg[i][0] = (struct nvme_ng_segment) {
		region, PIECE, (i + 1) % COUNT * PIECE };
	seg[i][1] = (struct nvme_ng_segment) { region, PIECE, i * PIECE };
	cmd.addr = (uintptr_t)seg[i];
	cmd.data_len = 2;
	nt_region_put(&ring, ns->dev.fd, NVME_NG_URING_CMD_IO_VEC, &cmd, 0, 0);
}

static void reads(struct arg *a, __u32 region, unsigned char *mem)
{
	int fd = a->ns->dev.fd;
	struct nvme_uring_cmd cmd;
	unsigned int i;

	for (i = 0; i < COUNT; i++) {
		nt_place_cmd(a->ns, 0, false, PIECE, &cmd);
		cmd.addr = (__u64)i * PIECE + (region ? 0 : (uintptr_t)mem);
		cmd.data_len = PIECE;
		if (a->source == VECTOR)
			put_vector(a->ns, region, i);
		else if (region)
			nt_region_put(&ring, fd, NVME_NG_URING_CMD_IO, &cmd,
				      region, 0);
		else
			nt_ring_put(&ring, fd, NVME_URING_CMD_IO,
				    a->source == REGISTERED ? 0 :
				    NT_UNREGISTERED, &cmd);
	}
	nt_ring_submit(&ring);
	nt_ring_land(&ring);
}

static void count(void *arg)
{
	struct arg *a = arg;
	unsigned char *mem = nt_alloc(COUNT * PIECE, 0);
	struct iovec iov = { mem, COUNT * PIECE };
	__u32 region = 0;

	nt_ring_open(&ring, COUNT, a->mode->setup);
	if (a->source == REGISTERED)
		nt_eq(io_uring_register_buffers(&ring.ring, &iov, 1), 0);
	if (a->source <= REGION)
		nt_status(nt_map(a->ns->dev.fd, 0, mem, COUNT * PIECE,
				 &region), 0);
	if (!tell(INSTANCE "/trace", ""))
		nt_die("cannot clear the trace: %m");
	/* the first time, when memory is mapped, and when it is mapped already */
	reads(a, region, mem);
	reads(a, region, mem);
	reads(a, region, mem);
	nt_eq(requests(a->ns), 0);
	/* an ioctl takes a request, which is seen */
	nt_status(nt_rw(a->ns, NT_IOCTL, NVME_CMD_READ, 0, 1, mem, NULL, NULL),
		  NVME_SC_SUCCESS);
	nt_eq(requests(a->ns), 1);
	nt_ring_close(&ring);
	if (region)
		nt_status(nt_unmap(a->ns->dev.fd, region), 0);
}

/*
 * More commands than a queue has slots, each with more data than a page: those
 * that find no slot take the way of the block layer with all that was made.
 */
#define FULL		1300
#define LONG		(3 * PIECE)

static void full(void *arg)
{
	struct arg *a = arg;
	struct nt_rule rule = {
		.nsid = htole32(a->ns->nsid), .opcode = NVME_CMD_READ,
	};
	unsigned char *mem = nt_alloc((size_t)FULL * LONG, 0);
	struct iovec iov = { mem, (size_t)FULL * LONG };
	bool fixed = a->source == REGISTERED;
	struct nvme_uring_cmd cmd;
	unsigned char want[LONG];
	unsigned int i, delay;

	if (!a->ns->testbed)
		nt_skip("only devices of the test bed can be slow");
	nt_ring_open(&ring, FULL, a->mode->setup);
	if (fixed)
		nt_eq(io_uring_register_buffers(&ring.ring, &iov, 1), 0);
	nt_fill(want, LONG, a->mode->setup + fixed);
	memcpy(mem, want, LONG);
	nt_place_cmd(a->ns, 0, true, LONG, &cmd);
	cmd.addr = (uintptr_t)mem;
	cmd.data_len = LONG;
	nt_status(nt_ring_run(&ring, a->ns->dev.fd, NVME_URING_CMD_IO,
			      fixed ? 0 : NT_UNREGISTERED, &cmd), 0);
	nt_oob_reset(a->ns->ctrl.fd);
	if (!tell(INSTANCE "/trace", ""))
		nt_die("cannot clear the trace: %m");
	nt_place_cmd(a->ns, 0, false, LONG, &cmd);
	cmd.data_len = LONG;
	/* the first must not be complete before the last is sent */
	for (delay = 500; !requests(a->ns) && delay <= 8000; delay *= 2) {
		memset(mem, 0, (size_t)FULL * LONG);
		rule.delay_ms = htole32(delay);
		nt_inject(a->ns->ctrl.fd, &rule);
		for (i = 0; i < FULL; i++) {
			cmd.addr = (uintptr_t)mem + (size_t)i * LONG;
			nt_ring_put(&ring, a->ns->dev.fd, NVME_URING_CMD_IO,
				    fixed ? 0 : NT_UNREGISTERED, &cmd);
		}
		nt_ring_submit(&ring);
		nt_ring_land(&ring);
		nt_inject(a->ns->ctrl.fd, NULL);
		for (i = 0; i < FULL; i++)
			nt_same(mem + (size_t)i * LONG, want, LONG);
	}
	nt_eq(nt_oob(a->ns->ctrl.fd), 0);
	nt_eq(requests(a->ns) > 0, true);
	nt_ring_close(&ring);
}

/* Lines of a node's fdinfo that begin and end so */
static unsigned int told(int fd, const char *begin, const char *end)
{
	char path[64], line[256];
	unsigned int n = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	file = fopen(path, "r");
	if (!file)
		nt_die("%s: %m", path);
	while (fgets(line, sizeof(line), file)) {
		size_t len = strcspn(line, "\n"), tail = strlen(end);

		line[len] = '\0';
		n += !strncmp(line, begin, strlen(begin)) && len >= tail &&
			!strcmp(line + len - tail, end);
	}
	fclose(file);
	return n;
}

/* What a file has is in its fdinfo, from when it has it. */
static void fdinfo(void *arg)
{
	struct arg *a = arg;
	bool polled = a->mode->setup & IORING_SETUP_IOPOLL;
	unsigned char *mem = nt_alloc(3 * PIECE, 0);
	int fd = open(a->ns->dev.path, O_RDWR | O_CLOEXEC);
	struct nvme_uring_cmd cmd;
	unsigned int i;
	__u32 region[2];

	if (fd < 0)
		nt_die("%s: %m", a->ns->dev.path);
	nt_eq(told(fd, "nvme-", ""), 0);
	nt_status(nt_map(fd, 0, mem, PIECE, &region[0]), 0);
	nt_status(nt_map(fd, 0, mem + PIECE - 4, PIECE + 8, &region[1]), 0);
	nt_eq(told(fd, "nvme-regions:", "\t2"), 1);
	nt_eq(told(fd, "nvme-region-bytes:", "\t8200"), 1);
	nt_eq(told(fd, "nvme-region-pinned:", "\t16 KiB"), 1);
	nt_eq(told(fd, "nvme-mappings:", "\t0"), 1);
	nt_eq(told(fd, "nvme-ring-queue:", ""), 0);

	nt_ring_open(&ring, 4, a->mode->setup);
	nt_place_cmd(a->ns, 0, false, PIECE, &cmd);
	cmd.addr = 0;
	cmd.data_len = PIECE;
	/* the lock for a queue is only tried */
	for (i = 0; i < 10 && !told(fd, "nvme-ring-queue:", ""); i++)
		nt_status(nt_region_run(&ring, fd, NVME_NG_URING_CMD_IO, &cmd,
					region[0], 0), 0);
	nt_ring_close(&ring);
	nt_eq(told(fd, "nvme-ring-queues:", ""), 1);
	nt_eq(told(fd, "nvme-ring-queue:", ""), 1);
	nt_eq(told(fd, "nvme-ring-queue:", polled ? " polled 0" :
		   " interrupt 0"), 1);

	nt_status(nt_unmap(fd, region[0]), 0);
	nt_status(nt_unmap(fd, region[1]), 0);
	nt_eq(told(fd, "nvme-regions:", "\t0"), 1);
	nt_eq(told(fd, "nvme-region-pinned:", "\t0 KiB"), 1);
	close(fd);
}

static bool fits(const struct nt_ns *ns)
{
	return ns->csi == NVME_CSI_NVM && !ns->ms && ns->lba_size &&
	       ns->lba_size <= PIECE && nt_place_known(ns);
}

int main(int argc, char **argv)
{
	static const struct nt_prog prog = {
		.what = "Test that commands of rings need no requests.",
		.wants = "without metadata",
		.fits = fits,
	};
	size_t n, i, mode;
	struct nt_ns *ns;
	int source;

	nt_init(argc, argv, &prog);
	ns = nt_namespaces(&n);
	start_tracing();
	nt_plan(n * NT_MODES * SOURCES + n * 2 * (SOURCES - REGISTERED) + n * 2);
	for (i = 0; i < n; i++)
		for (mode = 0; mode < NT_MODES; mode++)
			for (source = 0; source < SOURCES; source++) {
				struct arg a = { &ns[i], &nt_modes[mode],
						 source };

				nt_test(count, &a, "%s %s %s", ns[i].name,
					nt_modes[mode].name, sources[source]);
			}
	for (i = 0; i < n; i++)
		for (mode = 0; mode < NT_MODES; mode++) {
			struct arg a = { &ns[i], &nt_modes[mode], REGISTERED };

			/* by interrupt and polled */
			if (nt_modes[mode].setup & ~IORING_SETUP_IOPOLL)
				continue;
			for (; a.source < SOURCES; a.source++)
				nt_test(full, &a, "%s %s %s full", ns[i].name,
					nt_modes[mode].name,
					sources[a.source]);
			nt_test(fdinfo, &a, "%s %s fdinfo", ns[i].name,
				nt_modes[mode].name);
		}
	return nt_end();
}
