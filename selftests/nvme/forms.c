// SPDX-License-Identifier: GPL-2.0
/*
 * Every form of a command: I/O and admin, one buffer and a vector of segments,
 * plain and registered memory, in rings that take interrupts, poll, or have a
 * thread that submits.  Memory around the segments must stay as it was.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "ring.h"

#define HUGE		(2UL << 20)
#define AREA		(3 * HUGE)
#define MAX_IOV		1024
/* without data, in no command set */
#define NO_SUCH_OPCODE	0x7c
#define MAX_MS		64
#define MAX_META	(33 * MAX_MS)

static const struct nt_mode modes[] = {
	{ "irq", 0 },
	{ "iopoll", IORING_SETUP_IOPOLL },
	{ "defer", IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN },
	{ "iopoll+defer", IORING_SETUP_IOPOLL | IORING_SETUP_SINGLE_ISSUER |
	  IORING_SETUP_DEFER_TASKRUN },
	{ "sqpoll", IORING_SETUP_SQPOLL },
	{ "iopoll+sqpoll", IORING_SETUP_IOPOLL | IORING_SETUP_SQPOLL },
};

/* kinds of memory, and registered buffers */
enum { SMALL, THP, HUGETLB, KINDS };

/**
 * struct layout - how the bytes of a command lie in memory
 * @name: for messages
 * @kind: of memory
 * @segments: without those of length 0; 0 for one a page
 * @offset: of the first byte in the area
 * @gap: bytes between segments, which come in the opposite order
 * @len: bytes in total, about; 0 for the largest transfer
 * @zeros: a segment of length 0 beside each
 */
struct layout {
	const char *name;
	int kind;
	unsigned int segments;
	__u32 offset;
	__u32 gap;
	__u32 len;
	bool zeros;
};

#define ONE(kind, offset, len) \
	{ #kind " at " #offset, kind, 1, offset, 0, len, false }

static const struct layout layouts[] = {
	ONE(SMALL, 0, 4096),
	ONE(SMALL, 512, 16384),
	ONE(SMALL, 4092, 9000),
	ONE(SMALL, 1, 5001),
	ONE(SMALL, 0, 0),
	ONE(SMALL, 2052, 0),
	ONE(THP, 12800, 20000),
	ONE(THP, 2 * 1024 * 1024 - 4096, 8192),
	ONE(THP, 4096, 0),
	ONE(HUGETLB, 512, 4096),
	ONE(HUGETLB, 2 * 1024 * 1024 - 8188, 16384),
	ONE(HUGETLB, 0, 0),
	{ "1 segment", SMALL, 1, 4, 0, 4096, false },
	{ "8 segments", SMALL, 8, 0, 4096, 32768, false },
	{ "9 segments", SMALL, 9, 0, 4096, 36864, false },
	{ "257 segments", SMALL, 257, 0, 4096, 300000, false },
	{ "1024 segments", SMALL, 1024, 0, 3584, 524288, false },
	{ "segments that do not meet at pages", SMALL, 17, 520, 4000, 60000,
	  false },
	{ "segments in one page", SMALL, 8, 64, 4, 3600, false },
	{ "segments of odd length", SMALL, 5, 3, 99, 20001, false },
	{ "segments of a THP", THP, 33, 4096, 8192, 135168, false },
	{ "segments of hugetlb pages", HUGETLB, 200, 100, 6000, 400000, false },
	{ "segments of no length", SMALL, 8, 0, 4096, 32768, true },
	{ "512 segments of no length", SMALL, 512, 0, 4096, 300000, true },
	{ "scattered pages", SMALL, 0, 0, 4096, 0, false },
};

struct form {
	struct nt_ns *ns;
	const struct nt_mode *mode;
	bool vec;
	bool fixed;
};

static struct nt_ring ring;
static unsigned char *areas[KINDS];
/* what an area should hold, what was read back, two things to write in turn */
static unsigned char *model, *back, *wires[2];

/* Pages that came in an order of their own, so that few are neighbours. */
static void make_small(void)
{
	size_t i, pages = AREA / NT_PAGE;
	unsigned char *p;

	p = mmap(NULL, AREA, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED || madvise(p, AREA, MADV_NOHUGEPAGE))
		nt_die("cannot get small pages: %m");
	for (i = 0; i < pages; i++)
		p[i * 649 % pages * NT_PAGE] = 1;
	areas[SMALL] = p;
}

static void make_thp(void)
{
	unsigned char *p;

	p = mmap(NULL, AREA + HUGE, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		nt_die("cannot get memory: %m");
	p += -(uintptr_t)p % HUGE;
	if (madvise(p, AREA, MADV_HUGEPAGE))
		nt_die("no transparent huge pages: %m");
	memset(p, 0, AREA);
	areas[THP] = p;
}

static void make_hugetlb(void)
{
	unsigned char *p;
	FILE *f;

	f = fopen("/proc/sys/vm/nr_hugepages", "w");
	if (!f || fprintf(f, "%lu\n", AREA / HUGE + 2) < 0 || fclose(f))
		nt_die("cannot reserve huge pages: %m");
	p = mmap(NULL, AREA, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
	if (p == MAP_FAILED)
		nt_die("%lu huge pages of 2 MiB are needed: %m", AREA / HUGE);
	memset(p, 0, AREA);
	areas[HUGETLB] = p;
}

static void make_memory(void)
{
	make_small();
	make_thp();
	make_hugetlb();
	model = malloc(AREA);
	back = malloc(AREA);
	wires[0] = malloc(AREA);
	wires[1] = malloc(AREA);
	if (!model || !back || !wires[0] || !wires[1])
		nt_die("not enough memory");
}

static void open_ring(const struct nt_mode *mode)
{
	struct iovec iov[KINDS];
	int i, ret;

	nt_ring_open(&ring, 128, mode->setup);
	for (i = 0; i < KINDS; i++) {
		iov[i].iov_base = areas[i];
		iov[i].iov_len = AREA;
	}
	ret = io_uring_register_buffers(&ring.ring, iov, KINDS);
	if (ret)
		nt_die("cannot register buffers: %s", strerror(-ret));
}

static __u32 op_of(const struct form *f)
{
	return f->vec ? NVME_URING_CMD_IO_VEC : NVME_URING_CMD_IO;
}

/* The segments of @len bytes; the number of them, and what they span. */
static unsigned int lay_out(const struct layout *l, unsigned char *area,
			    __u32 len, struct iovec *iov, size_t *span)
{
	unsigned int i, n = 0, nr = l->segments ? l->segments : len / NT_PAGE;
	/* odd lengths stay odd, others stay dwords */
	__u32 step = l->offset & 1 ? 1 : 4;
	__u32 each = len / step / nr, more = len / step % nr;
	size_t stride = (each + !!more) * step + len % step + l->gap;

	for (i = 0; i < nr; i++) {
		if (l->zeros) {
			iov[n].iov_base = i & 1 ? NULL : area;
			iov[n++].iov_len = 0;
		}
		iov[n].iov_base = area + l->offset + (nr - 1 - i) * stride;
		iov[n].iov_len = (each + (i < more)) * step;
		if (i == nr - 1)
			iov[n].iov_len += len % step;
		n++;
	}
	*span = l->offset + nr * stride + 64;
	if (*span > AREA)
		nt_die("layout '%s' wants more than %lu bytes", l->name, AREA);
	return n;
}

static void scatter(unsigned char *area, unsigned char *to,
		    const struct iovec *iov, unsigned int n,
		    const unsigned char *from)
{
	unsigned int i;

	for (i = 0; i < n; i++) {
		size_t at = (unsigned char *)iov[i].iov_base - area;

		if (iov[i].iov_len)
			memcpy(to + at, from, iov[i].iov_len);
		from += iov[i].iov_len;
	}
}

/* Through the ioctl with one buffer: what is at the place. */
static int read_back(struct nt_ns *ns, __u32 len)
{
	struct nvme_uring_cmd cmd;

	nt_place_cmd(ns, 0, false, len, &cmd);
	cmd.addr = (uintptr_t)back;
	cmd.data_len = len;
	return nt_dev_ioctl(ns->dev.fd, NVME_IOCTL_IO64_CMD, &cmd, NULL);
}

static void status(const struct layout *l, const char *what, int got)
{
	if (got)
		nt_fail("%s: %s: got %s %xh", l->name, what,
			got < 0 ? "errno" : "status", got < 0 ? -got : got);
}

static void same(const struct layout *l, const char *what,
		 const unsigned char *got, const unsigned char *want, size_t n)
{
	size_t i;

	if (!memcmp(got, want, n))
		return;
	for (i = 0; got[i] == want[i];)
		i++;
	nt_fail("%s: %s: byte %zu of %zu: got %02x, expected %02x", l->name,
		what, i, n, got[i], want[i]);
}

static void one_layout(struct form *f, const struct layout *l,
		       const unsigned char *wire)
{
	unsigned char *area = areas[l->kind];
	struct nt_ns *ns = f->ns;
	__u32 unit = nt_place_unit(ns), max = nt_place_max(ns);
	__u32 len = l->len ? l->len : max;
	int buf = f->fixed ? l->kind : NT_UNREGISTERED;
	struct iovec iov[MAX_IOV];
	struct nvme_uring_cmd cmd;
	unsigned int n;
	size_t span;

	len = len < max ? len : max;
	len = len < unit ? unit : len / unit * unit;
	n = lay_out(l, area, len, iov, &span);

	memset(model, NT_POISON, span);
	scatter(area, model, iov, n, wire);
	memcpy(area, model, span);
	nt_place_reset(ns, 0);
	nt_place_cmd(ns, 0, true, len, &cmd);
	cmd.addr = f->vec ? (uintptr_t)iov : (uintptr_t)iov[0].iov_base;
	cmd.data_len = f->vec ? n : len;
	status(l, "write", nt_ring_run(&ring, ns->dev.fd, op_of(f), buf, &cmd));
	same(l, "memory after the write", area, model, span);
	memset(back, 0, len);
	status(l, "ioctl", read_back(ns, len));
	same(l, "what was written", back, wire, len);

	memset(area, NT_POISON, span);
	nt_place_cmd(ns, 0, false, len, &cmd);
	cmd.addr = f->vec ? (uintptr_t)iov : (uintptr_t)iov[0].iov_base;
	cmd.data_len = f->vec ? n : len;
	status(l, "read", nt_ring_run(&ring, ns->dev.fd, op_of(f), buf, &cmd));
	same(l, "memory after the read", area, model, span);
}

static void run_layouts(void *arg)
{
	struct form *f = arg;
	/* who submits or reaps does not matter for where data is in memory */
	bool few = f->mode->setup & (IORING_SETUP_DEFER_TASKRUN |
				     IORING_SETUP_SQPOLL);
	size_t i;

	for (i = 0; i < ARRAY_SIZE(layouts); i += few ? 4 : 1) {
		if (layouts[i].segments != 1 && !f->vec)
			continue;
		one_layout(f, &layouts[i], wires[i % 2]);
	}
	nt_ring_quiet(&ring);
}

/* What cannot be is refused, and how. */
static void run_refused(void *arg)
{
	struct form *f = arg;
	struct nt_ns *ns = f->ns;
	__u32 unit = nt_place_unit(ns), max = nt_place_max(ns);
	int buf = f->fixed ? SMALL : NT_UNREGISTERED;
	struct iovec iov[MAX_IOV + 1];
	struct nvme_uring_cmd cmd;
	__u32 len = unit == 1 ? 4096 : 4096 / ns->lba_size * unit, i;

	for (i = 0; i < MAX_IOV + 1; i++) {
		iov[i].iov_base = areas[SMALL] + i * NT_PAGE;
		iov[i].iov_len = 0;
	}
	iov[0].iov_len = len;
	nt_place_cmd(ns, 0, false, len, &cmd);
	cmd.addr = f->vec ? (uintptr_t)iov : (uintptr_t)iov[0].iov_base;
	if (f->vec) {
		cmd.data_len = MAX_IOV + 1;
		nt_status(nt_ring_run(&ring, ns->dev.fd, op_of(f), buf, &cmd),
			  -EINVAL);

		/* many segments, the last of which no memory could be for */
		for (i = 0; i < 100; i++)
			iov[i].iov_len = 4;
		iov[i].iov_len = 1UL << 42;
		cmd.data_len = i + 1;
		nt_status(nt_ring_run(&ring, ns->dev.fd, op_of(f), buf, &cmd),
			  -EINVAL);
		iov[0].iov_len = len;
	}
	cmd.data_len = f->vec ? 1 : len;
	cmd.flags = 1;
	nt_status(nt_ring_run(&ring, ns->dev.fd, op_of(f), buf, &cmd), -EINVAL);
	cmd.flags = 0;
	cmd.nsid++;
	nt_status(nt_ring_run(&ring, ns->dev.fd, op_of(f), buf, &cmd), -EINVAL);
	cmd.nsid--;
	nt_status(nt_ring_run(&ring, ns->dev.fd, NVME_URING_CMD_ADMIN, buf,
			      &cmd), -ENOTTY);
	if (f->fixed)
		nt_status(nt_ring_run(&ring, ns->dev.fd, op_of(f), KINDS, &cmd),
			  -EFAULT);

	/* the second of two segments is not there */
	iov[0].iov_len = len - 4;
	iov[1].iov_base = f->fixed ? model : (void *)16;
	iov[1].iov_len = 4;
	cmd.data_len = f->vec ? 2 : len;
	if (!f->vec)
		cmd.addr = (uintptr_t)iov[1].iov_base;
	nt_status(nt_ring_run(&ring, ns->dev.fd, op_of(f), buf, &cmd), -EFAULT);

	/* one more than the controller takes at once */
	if (ns->mdts && max + unit > ns->mdts) {
		nt_place_cmd(ns, 0, false, max + unit, &cmd);
		iov[0].iov_len = max + unit;
		cmd.addr = f->vec ? (uintptr_t)iov :
			(uintptr_t)iov[0].iov_base;
		cmd.data_len = f->vec ? 1 : max + unit;
		nt_status(nt_ring_run(&ring, ns->dev.fd, op_of(f), buf, &cmd),
			  -EINVAL);
	}
	nt_ring_quiet(&ring);
}

/* Separate metadata: beside the data in the registered buffer, and elsewhere. */
static void run_metadata(void *arg)
{
	static const __u32 at[] = { 0, 4, 4092, 2048, 1 };
	struct form *f = arg;
	struct nt_ns *ns = f->ns;
	unsigned char *area = areas[SMALL], *meta, *wire = wires[0];
	unsigned char want[MAX_META], got[MAX_META];
	unsigned int i, j, blocks, inside;

	for (i = 0; i < ARRAY_SIZE(at); i++) {
		for (j = 0; j < 4; j++) {
			__u32 len, ms;
			struct nvme_uring_cmd cmd;
			struct iovec iov[2];

			blocks = j & 1 ? 33 : 1;
			inside = j & 2;
			len = blocks * ns->lba_size;
			ms = blocks * ns->ms;
			meta = (inside ? areas[SMALL] + HUGE : back) + at[i];
			nt_fill(want, ms, ~(i * 4ULL + j));

			memcpy(area, wire, len);
			memcpy(meta, want, ms);
			iov[0].iov_base = area;
			iov[0].iov_len = len - 512;
			iov[1].iov_base = area + len - 512;
			iov[1].iov_len = 512;
			nt_place_cmd(ns, 0, true, len, &cmd);
			cmd.addr = f->vec ? (uintptr_t)iov : (uintptr_t)area;
			cmd.data_len = f->vec ? 2 : len;
			cmd.metadata = (uintptr_t)meta;
			cmd.metadata_len = ms;
			cmd.cdw2 = ns->testbed ? ms : 0;
			nt_status(nt_ring_run(&ring, ns->dev.fd, op_of(f),
					      f->fixed ? SMALL :
					      NT_UNREGISTERED, &cmd),
				  NVME_SC_SUCCESS);
			memset(got, 0, sizeof(got));
			nt_status(nt_rw(ns, NT_IOCTL, NVME_CMD_READ, 0, blocks,
					model, got, NULL), NVME_SC_SUCCESS);
			nt_same(model, wire, len);
			nt_same(got, want, ms);

			memset(area, NT_POISON, len + 64);
			memset(meta, NT_POISON, ms + 64);
			cmd.opcode = NVME_CMD_READ;
			nt_status(nt_ring_run(&ring, ns->dev.fd, op_of(f),
					      f->fixed ? SMALL :
					      NT_UNREGISTERED, &cmd),
				  NVME_SC_SUCCESS);
			nt_same(area, wire, len);
			nt_same(meta, want, ms);
			memset(model, NT_POISON, 64);
			nt_same(area + len, model, 64);
			nt_same(meta + ms, model, 64);
		}
	}
	nt_ring_quiet(&ring);
}

/* Of all I/O queues; only what is tested uses them. */
static unsigned long count_interrupts(void)
{
	FILE *f = fopen("/proc/interrupts", "r");
	unsigned long sum = 0;
	char line[4096];

	if (!f)
		nt_fail("/proc/interrupts: errno %d", errno);
	while (fgets(line, sizeof(line), f)) {
		char *name = strstr(line, " nvme"), *p = strchr(line, ':');
		char *q = name ? strchr(name, 'q') : NULL, *end;
		unsigned long n;

		if (!p || !q || !strcmp(q, "q0\n"))
			continue;
		for (p++; n = strtoul(p, &end, 10), end != p; p = end)
			sum += n;
	}
	fclose(f);
	return sum;
}

/* What is polled comes without an interrupt, and only that. */
static void check_interrupts(const struct form *f, unsigned long before)
{
	if (f->ns->testbed)
		nt_eq(count_interrupts() != before,
		      !(f->mode->setup & IORING_SETUP_IOPOLL));
}

/* Commands without data, one after the other and many at a time. */
static void run_no_data(void *arg)
{
	struct form *f = arg;
	struct nt_ns *ns = f->ns;
	struct nvme_uring_cmd cmd = { .nsid = ns->nsid };
	int buf = f->fixed ? SMALL : NT_UNREGISTERED, want = 0, res;
	unsigned long before = count_interrupts();
	unsigned int i, name;

	if (ns->csi == NVME_CSI_KV) {
		/* a key of place 99, which holds nothing */
		cmd.opcode = NVME_CMD_KV_EXIST;
		cmd.cdw2 = 99;
		cmd.cdw11 = 4;
		want = NVME_SC_KV_NO_KEY;
	}
	for (i = 0; i < 4; i++)
		nt_status(nt_ring_run(&ring, ns->dev.fd, op_of(f), buf, &cmd),
			  want);
	for (i = 0; i < 64; i++)
		nt_ring_put(&ring, ns->dev.fd, op_of(f), buf, &cmd);
	nt_ring_submit(&ring);
	for (i = 0; i < 64; i++) {
		if (!nt_ring_reap(&ring, 20000, &name, &res))
			nt_fail("%u of 64 commands completed", i);
		nt_status(res < 0 ? res : res & NVME_SC_MASK, want);
	}
	nt_ring_quiet(&ring);
	check_interrupts(f, before);
}

/*
 * A chain is executed in order, ends with the first errno, but goes on after
 * an NVMe status, which is a result.
 */
static void run_linked(void *arg)
{
	struct form *f = arg;
	struct nt_ns *ns = f->ns;
	__u32 unit = nt_place_unit(ns);
	__u32 len = unit == 1 ? 4096 : 4096 / ns->lba_size * unit;
	int buf = f->fixed ? SMALL : NT_UNREGISTERED, res, results[12];
	unsigned char *area = areas[SMALL];
	struct iovec iov[12];
	unsigned int i, name, first;
	unsigned long before;

	/* six times written and read */
	nt_place_reset(ns, 0);
	first = ring.next;
	for (i = 0; i < 12; i++) {
		struct nvme_uring_cmd cmd;
		struct io_uring_sqe *sqe;

		iov[i].iov_base = area + i * HUGE / 16;
		iov[i].iov_len = len;
		if (i & 1)
			memset(iov[i].iov_base, NT_POISON, len);
		else
			nt_place_fill(ns, i / 2, iov[i].iov_base, len, i);
		/* the zoned place can be written only once */
		nt_place_cmd(ns, i / 2, !(i & 1), len, &cmd);
		cmd.addr = (uintptr_t)(f->vec ? (void *)&iov[i] :
				       iov[i].iov_base);
		cmd.data_len = f->vec ? 1 : len;
		if (!(i & 1))
			nt_place_reset(ns, i / 2);
		sqe = nt_ring_put(&ring, ns->dev.fd, op_of(f), buf, &cmd);
		if (i < 11)
			sqe->flags |= IOSQE_IO_LINK;
	}
	before = count_interrupts();
	nt_ring_submit(&ring);
	for (i = 0; i < 12; i++) {
		if (!nt_ring_reap(&ring, 20000, &name, &res))
			nt_fail("%u of a chain of 12 commands completed", i);
		nt_eq(name, first + i);
		nt_status(res, NVME_SC_SUCCESS);
	}
	check_interrupts(f, before);
	for (i = 0; i < 12; i += 2)
		nt_same(iov[i + 1].iov_base, iov[i].iov_base, len);

	/* a status first, and an errno in the middle */
	first = ring.next;
	for (i = 0; i < 4; i++) {
		struct nvme_uring_cmd cmd;

		nt_place_cmd(ns, 0, false, len, &cmd);
		cmd.addr = (uintptr_t)(f->vec ? (void *)&iov[i] :
				       iov[i].iov_base);
		cmd.data_len = f->vec ? 1 : len;
		if (!i)
			cmd.opcode = NO_SUCH_OPCODE;
		cmd.nsid += i == 1;
		nt_ring_put(&ring, ns->dev.fd, op_of(f), buf,
			    &cmd)->flags |= i < 3 ? IOSQE_IO_LINK : 0;
	}
	nt_ring_submit(&ring);
	for (i = 0; i < 4; i++) {
		if (!nt_ring_reap(&ring, 20000, &name, &res))
			nt_fail("%u of a chain of 4 commands completed", i);
		results[name - first] = res;
	}
	nt_status(results[0] & NVME_SC_MASK, NVME_SC_INVALID_OPCODE);
	nt_status(results[1], -EINVAL);
	nt_status(results[2], -ECANCELED);
	nt_status(results[3], -ECANCELED);
	nt_ring_quiet(&ring);
}

/*
 * Identify Controller in every form.  The admin queue is not polled: a ring that
 * polls is told so, unless the kernel lets it wait for the interrupt, as 7.3 does.
 */
static void run_admin(void *arg)
{
	struct form *f = arg;
	struct nt_ns *ns = f->ns;
	static const __u32 at[] = { 0, 4, 4092, HUGE - 2048, 1 };
	bool polled = f->mode->setup & IORING_SETUP_IOPOLL, refused = false;
	struct nvme_uring_cmd cmd = {
		.opcode = NVME_ADMIN_IDENTIFY,
		.cdw10 = NVME_ID_CNS_CTRL,
	};
	unsigned char want[4096];
	unsigned int i;
	int kind, ret;

	nt_status(nt_identify(ns->ctrl.fd, NVME_ID_CNS_CTRL, 0, 0, want),
		  NVME_SC_SUCCESS);
	for (i = 0; i < ARRAY_SIZE(at) * KINDS; i++) {
		unsigned char *p = areas[kind = i % KINDS] + at[i / KINDS];
		struct iovec iov[3] = {
			{ .iov_base = p, .iov_len = 100 },
			{ .iov_base = NULL, .iov_len = 0 },
			{ .iov_base = p + 8192, .iov_len = 3996 },
		};

		memset(p, NT_POISON, 3 * 4096);
		memset(model, NT_POISON, 3 * 4096);
		cmd.addr = (uintptr_t)(f->vec ? (void *)iov : p);
		cmd.data_len = f->vec ? 3 : 4096;
		ret = nt_ring_run(&ring, ns->ctrl.fd, f->vec ?
				  NVME_URING_CMD_ADMIN_VEC :
				  NVME_URING_CMD_ADMIN,
				  f->fixed ? kind : NT_UNREGISTERED, &cmd);
		if (!i)
			refused = polled && ret == -EOPNOTSUPP;
		nt_status(ret, refused ? -EOPNOTSUPP : NVME_SC_SUCCESS);
		if (!refused && f->vec) {
			memcpy(model, want, 100);
			memcpy(model + 8192, want + 100, 3996);
		} else if (!refused) {
			memcpy(model, want, 4096);
		}
		nt_same(p, model, 3 * 4096);
	}
	nt_ring_quiet(&ring);
}

/* A registered buffer of 1 GiB, the most that io_uring takes. */
static void run_gigabyte(void *arg)
{
	static const size_t at[] = {
		0, 516, (512UL << 20) + 4092, (1UL << 30) - (1 << 16) - 4096,
	};
	struct form *f = arg;
	struct nt_ns *ns = f->ns;
	__u32 unit = nt_place_unit(ns), len = (1 << 16) / unit * unit;
	const unsigned char *wire = wires[0];
	const size_t size = 1UL << 30;
	struct iovec iov;
	unsigned char *p;
	unsigned int i;
	struct nt_ring r;

	p = mmap(NULL, size + HUGE, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		nt_fail("cannot get 1 GiB: %m");
	iov.iov_base = p + -(uintptr_t)p % HUGE;
	iov.iov_len = size;
	madvise(iov.iov_base, size, MADV_HUGEPAGE);
	nt_ring_open(&r, 8, f->mode->setup);
	nt_status(io_uring_register_buffers(&r.ring, &iov, 1), 0);
	for (i = 0; i < ARRAY_SIZE(at); i++) {
		unsigned char *q = (unsigned char *)iov.iov_base + at[i];
		struct nvme_uring_cmd cmd;

		memcpy(q, wire, len);
		nt_place_reset(ns, 0);
		nt_place_cmd(ns, 0, true, len, &cmd);
		cmd.addr = (uintptr_t)q;
		cmd.data_len = len;
		nt_status(nt_ring_run(&r, ns->dev.fd, NVME_URING_CMD_IO, 0,
				      &cmd), NVME_SC_SUCCESS);
		memset(q, NT_POISON, len);
		nt_place_cmd(ns, 0, false, len, &cmd);
		cmd.addr = (uintptr_t)q;
		cmd.data_len = len;
		nt_status(nt_ring_run(&r, ns->dev.fd, NVME_URING_CMD_IO, 0,
				      &cmd), NVME_SC_SUCCESS);
		nt_same(q, wire, len);
	}
	/* a ring is closed in the background, but the next one wants memory */
	nt_status(io_uring_unregister_buffers(&r.ring), 0);
	nt_ring_close(&r);
	munmap(p, size + HUGE);
}

static bool has_metadata(const struct nt_ns *ns)
{
	return ns->lba_size && ns->ms && !ns->extended;
}

/* the command sets that have a command without data */
static bool has_no_data(const struct nt_ns *ns)
{
	return ns->csi != NVME_CSI_ECHO;
}

/* Every case of a form, or the number of cases. */
static unsigned int run_form(struct form *f, bool run)
{
	static const struct {
		const char *name;
		void (*run)(void *arg);
		bool (*fits)(const struct nt_ns *ns);
	} cases[] = {
		{ "layouts", run_layouts, NULL },
		{ "refused", run_refused, NULL },
		{ "no data", run_no_data, has_no_data },
		{ "linked", run_linked, NULL },
		{ "admin", run_admin, NULL },
		{ "metadata", run_metadata, has_metadata },
	};
	const char *memory = f->fixed ? "fixed" : "plain";
	const char *vector = f->vec ? " vector" : "";
	unsigned int i, n = 0;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		if (cases[i].fits && !cases[i].fits(f->ns))
			continue;
		n++;
		if (!run)
			continue;
		/* what a failed case left must not disturb the next one */
		if (ring.flying) {
			nt_ring_close(&ring);
			open_ring(f->mode);
		}
		nt_test(cases[i].run, f, "%s %s %s%s %s", f->ns->name,
			f->mode->name, memory, vector, cases[i].name);
	}
	return n;
}

static bool same_controller(const struct nt_ns *a, const struct nt_ns *b)
{
	return !strcmp(a->dev.serial, b->dev.serial);
}

/* Drop namespaces of which a controller has another one just like it. */
static size_t choose(struct nt_ns *ns, size_t n)
{
	size_t i, j, kept = 0;

	for (i = 0; i < n; i++) {
		for (j = 0; j < kept; j++)
			if (same_controller(&ns[j], &ns[i]) &&
			    ns[j].csi == ns[i].csi &&
			    ns[j].lba_size == ns[i].lba_size &&
			    ns[j].ms == ns[i].ms)
				break;
		if (j == kept)
			ns[kept++] = ns[i];
	}
	return kept;
}

static bool last_of_controller(const struct nt_ns *ns, size_t n, size_t i)
{
	return i + 1 == n || !same_controller(&ns[i], &ns[i + 1]);
}

int main(int argc, char **argv)
{
	static const struct nt_prog prog = {
		.what = "Test every form of a command in every kind of ring.",
		.wants = "usable",
		.fits = nt_place_known,
	};
	unsigned int planned = 0, gigabytes = 0;
	struct form f;
	struct nt_ns *ns;
	size_t i, j, k, n;

	nt_init(argc, argv, &prog);
	make_memory();
	ns = nt_namespaces(&n);
	n = choose(ns, n);
	for (i = 0; i < n; i++) {
		f.ns = &ns[i];
		planned += ARRAY_SIZE(modes) * 4 * run_form(&f, false) +
			last_of_controller(ns, n, i);
	}
	nt_plan(planned);
	for (i = 0; i < n; i++) {
		f.ns = &ns[i];
		nt_note("%s is %s", ns[i].name, ns[i].dev.path);
		for (j = 0; j < 2; j++)
			nt_place_fill(f.ns, 0, wires[j], nt_place_max(f.ns), j);
		for (j = 0; j < ARRAY_SIZE(modes); j++) {
			f.mode = &modes[j];
			open_ring(f.mode);
			for (k = 0; k < 4; k++) {
				f.vec = k & 1;
				f.fixed = k & 2;
				run_form(&f, true);
			}
			nt_ring_close(&ring);
		}
		/* takes long, so the modes take turns */
		if (last_of_controller(ns, n, i)) {
			f.mode = &modes[gigabytes++ % 3];
			nt_test(run_gigabyte, &f, "%s %s 1 GiB buffer",
				ns[i].name, f.mode->name);
		}
	}
	return nt_end();
}
