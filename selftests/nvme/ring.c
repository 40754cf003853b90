// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <stdio.h>
#include <time.h>

#include "ring.h"

#ifndef IORING_URING_CMD_FIXED
#define IORING_URING_CMD_FIXED 1
#endif

/* blocks between two places, and bytes of metadata that each may have */
#define PLACE_BLOCKS	2048
#define MAX_MS		64

/* cdw12 of commands with protection information: check all of it */
#define PRCHK		(7 << 26)
#define APPTAG		0x1234

int nt_ring_try(struct nt_ring *r, unsigned int entries, unsigned int setup)
{
	struct io_uring_params p = {
		.flags = IORING_SETUP_SQE128 | IORING_SETUP_CQE32 | setup,
		.sq_thread_idle = 1,
	};

	memset(r, 0, sizeof(*r));
	r->polled = setup & IORING_SETUP_IOPOLL;
	return io_uring_queue_init_params(entries, &r->ring, &p);
}

void nt_ring_open(struct nt_ring *r, unsigned int entries, unsigned int setup)
{
	int ret = nt_ring_try(r, entries, setup);

	if (ret)
		nt_die("io_uring_setup, flags %x: %s", setup, strerror(-ret));
}

void nt_ring_close(struct nt_ring *r)
{
	io_uring_queue_exit(&r->ring);
}

/* Put a command into the ring: @buf is a registered buffer. */
struct io_uring_sqe *nt_ring_put(struct nt_ring *r, int fd, __u32 op, int buf,
				 const struct nvme_uring_cmd *cmd)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&r->ring);

	if (!sqe)
		nt_die("the ring is full");
	memset(sqe, 0, 2 * sizeof(*sqe));
	sqe->opcode = IORING_OP_URING_CMD;
	sqe->fd = fd;
	sqe->cmd_op = op;
	if (buf != NT_UNREGISTERED) {
		/* its place is called uring_cmd_flags in newer headers */
		sqe->rw_flags = IORING_URING_CMD_FIXED;
		sqe->buf_index = buf;
	}
	memcpy(sqe->cmd, cmd, sizeof(*cmd));
	sqe->user_data = r->next;
	r->seen[r->next] = 0;
	r->next = (r->next + 1) % ARRAY_SIZE(r->seen);
	r->flying++;
	return sqe;
}

void nt_ring_submit(struct nt_ring *r)
{
	int ret = io_uring_submit(&r->ring);

	if (ret < 0)
		nt_fail("io_uring_submit: %s", strerror(-ret));
}

static __u64 now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000ULL + t.tv_nsec / 1000000;
}

/*
 * The next completion; false if there is none within @ms.  A command that
 * completes twice, or that nobody sent, fails the case.
 */
bool nt_ring_reap(struct nt_ring *r, unsigned int ms, unsigned int *name,
		  int *res)
{
	struct __kernel_timespec wait = {
		.tv_sec = ms / 1000,
		.tv_nsec = ms % 1000 * 1000000,
	};
	__u64 end = now_ms() + ms;
	struct io_uring_cqe *cqe;
	int ret;

	if (r->polled) {
		/* an enter that polls does not look at its timeout */
		while ((ret = io_uring_peek_cqe(&r->ring, &cqe)) == -EAGAIN &&
		       now_ms() < end)
			io_uring_enter(r->ring.ring_fd, 0, 0,
				       IORING_ENTER_GETEVENTS, NULL);
	} else {
		do {
			ret = io_uring_wait_cqe_timeout(&r->ring, &cqe, &wait);
		} while (ret == -EINTR && now_ms() < end);
	}
	if (ret == -ETIME || ret == -EAGAIN || ret == -EINTR)
		return false;
	if (ret)
		nt_fail("waiting for a completion: %s", strerror(-ret));
	if (cqe->user_data >= ARRAY_SIZE(r->seen))
		nt_fail("completion of a command that was not sent: %llx",
			(unsigned long long)cqe->user_data);
	*name = cqe->user_data;
	*res = cqe->res;
	io_uring_cqe_seen(&r->ring, cqe);
	if (r->seen[*name]++)
		nt_fail("command %u completed twice", *name);
	if (!r->flying--)
		nt_fail("more completions than commands");
	return true;
}

/* One command and its status. */
int nt_ring_run(struct nt_ring *r, int fd, __u32 op, int buf,
		const struct nvme_uring_cmd *cmd)
{
	unsigned int name, sent = r->next;
	int res;

	nt_ring_put(r, fd, op, buf, cmd);
	nt_ring_submit(r);
	if (!nt_ring_reap(r, 60000, &name, &res))
		nt_die("opcode %02xh: no completion within 60 s", cmd->opcode);
	if (name != sent)
		nt_fail("completion of command %u, expected %u", name, sent);
	return res < 0 ? res : res & NVME_SC_MASK;
}

/* All that is in flight completes, and well. */
void nt_ring_land(struct nt_ring *r)
{
	unsigned int name;
	int res;

	while (r->flying) {
		if (!nt_ring_reap(r, 60000, &name, &res))
			nt_die("%u commands did not complete within 60 s",
			       r->flying);
		nt_status(res, NVME_SC_SUCCESS);
	}
}

/* Nothing is in flight and nothing completes any more. */
void nt_ring_quiet(struct nt_ring *r)
{
	unsigned int name;
	int res;

	nt_eq(r->flying, 0);
	if (nt_ring_reap(r, 5, &name, &res))
		nt_fail("command %u completed, but nothing was in flight", name);
}

/* Are there places, and can nt_place_fill() make their metadata? */
bool nt_place_known(const struct nt_ns *ns)
{
	return (ns->csi == NVME_CSI_NVM || ns->testbed) && ns->ms <= MAX_MS &&
	       (!ns->pi || ns->extended);
}

/* Bytes that a transfer is a multiple of. */
__u32 nt_place_unit(const struct nt_ns *ns)
{
	if (!ns->lba_size)
		return 1;
	return ns->lba_size + (ns->extended ? ns->ms : 0);
}

/* The largest transfer, a multiple of the unit. */
__u32 nt_place_max(struct nt_ns *ns)
{
	__u32 max = ns->mdts ? ns->mdts : 1 << 20, unit = nt_place_unit(ns);
	unsigned char id[4096];

	switch (ns->csi) {
	case NVME_CSI_KV:
		nt_status(nt_identify(ns->dev.fd, NVME_ID_CNS_CS_NS,
				      NVME_CSI_KV, ns->nsid, id),
			  NVME_SC_SUCCESS);
		if (nt_le32(id + 72 + 4) < max)
			max = nt_le32(id + 72 + 4);
		break;
	case NVME_CSI_ECHO:
		/* what the device of the test bed keeps */
		if (max > 1 << 20)
			max = 1 << 20;
		break;
	}
	return max / unit * unit;
}

static __u64 place_lba(unsigned int place)
{
	return (__u64)place * PLACE_BLOCKS;
}

/* The start of a zone, of which only those of the test bed are known. */
static __u64 place_zone(const struct nt_ns *ns, unsigned int place)
{
	return (__u64)place * ((4 << 20) / ns->lba_size);
}

/* Make the place writable from its start. */
void nt_place_reset(struct nt_ns *ns, unsigned int place)
{
	struct nvme_uring_cmd cmd = {
		.opcode = NVME_CMD_ZONE_MGMT_SEND,
		.cdw13 = 4,
	};

	if (ns->csi != NVME_CSI_ZNS)
		return;
	cmd.cdw10 = place_zone(ns, place);
	nt_status(nt_io(ns, NT_IOCTL, &cmd, NULL), NVME_SC_SUCCESS);
}

/*
 * The command that writes or reads @len bytes; the caller adds the buffer.  A
 * namespace with separate metadata gets or gives bytes of no importance.  The
 * lengths are declared to the test bed, where there is a field for them.
 */
void nt_place_cmd(const struct nt_ns *ns, unsigned int place, bool write,
		  __u32 len, struct nvme_uring_cmd *cmd)
{
	static unsigned char meta[PLACE_BLOCKS * MAX_MS];
	__u64 lba = place_lba(place);

	memset(cmd, 0, sizeof(*cmd));
	cmd->nsid = ns->nsid;
	switch (ns->csi) {
	case NVME_CSI_KV:
		cmd->opcode = write ? NVME_CMD_KV_STORE : NVME_CMD_KV_RETRIEVE;
		cmd->cdw2 = place;
		cmd->cdw10 = len;
		cmd->cdw11 = 4;
		cmd->cdw12 = ns->testbed ? len : 0;
		return;
	case NVME_CSI_ECHO:
		cmd->opcode = write ? NVME_CMD_ECHO_SEND :
				      NVME_CMD_ECHO_RECEIVE;
		cmd->cdw10 = len;
		break;
	case NVME_CSI_ZNS:
		lba = place_zone(ns, place);
		fallthrough;
	default:
		cmd->opcode = write ? NVME_CMD_WRITE : NVME_CMD_READ;
		cmd->cdw10 = lba;
		cmd->cdw11 = lba >> 32;
		cmd->cdw12 = len / nt_place_unit(ns) - 1;
		if (ns->ms && !ns->extended) {
			cmd->metadata = (uintptr_t)meta;
			cmd->metadata_len = len / ns->lba_size * ns->ms;
		}
		if (ns->pi) {
			cmd->cdw12 |= PRCHK;
			cmd->cdw14 = lba;
			cmd->cdw15 = 0xffff0000 | APPTAG;
			/* there is no reference tag to check in type 3 */
			if (ns->pi == 3)
				cmd->cdw12 &= ~(1 << 26);
			return;
		}
	}
	if (ns->testbed) {
		cmd->cdw2 = cmd->metadata_len;
		cmd->cdw3 = len;
	}
}

/* T10 DIF: polynomial 8bb7h, not reflected, from 0. */
static __u16 crc16(const unsigned char *data, __u32 len)
{
	static __u16 table[256];
	unsigned int i, bit;
	__u16 crc = 0;

	/* backwards: the first entry that is looked at is the last one made */
	for (i = 256; !table[1] && i--;) {
		__u16 v = i << 8;

		for (bit = 0; bit < 8; bit++)
			v = v & 0x8000 ? v << 1 ^ 0x8bb7 : v << 1;
		table[i] = v;
	}
	while (len--)
		crc = crc << 8 ^ table[crc >> 8 ^ *data++];
	return crc;
}

/* What may be written to the place: any bytes, but with a type 1 to 3 format. */
void nt_place_fill(const struct nt_ns *ns, unsigned int place, void *data,
		   __u32 len, __u64 seed)
{
	__u32 unit = nt_place_unit(ns), lba = place_lba(place);
	unsigned char *p;

	nt_fill(data, len, seed);
	if (!ns->pi || !ns->extended)
		return;
	for (p = data; len; len -= unit, p += unit, lba++) {
		unsigned char *pi = p + unit - 8;
		__u16 crc = crc16(p, unit - 8);

		pi[0] = crc >> 8;
		pi[1] = crc;
		pi[2] = APPTAG >> 8;
		pi[3] = APPTAG & 0xff;
		pi[4] = lba >> 24;
		pi[5] = lba >> 16;
		pi[6] = lba >> 8;
		pi[7] = lba;
	}
}
