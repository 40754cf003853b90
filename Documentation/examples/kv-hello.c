// SPDX-License-Identifier: GPL-2.0
/*
 * Store a value in a Key Value namespace and retrieve it, by io_uring.
 *
 *	cc -O2 kv-hello.c -luring -o kv-hello
 *	./kv-hello /dev/ng0n5 colour blue
 *
 * Nothing here is nvme-ng's own: it runs with any driver that lets the user
 * open the node for writing and send the commands.
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/nvme_ioctl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

enum { STORE = 0x01, RETRIEVE = 0x02 };

/* Send a command and wait for it: 0, an NVMe status, or a negative errno. */
static int kv(struct io_uring *ring, int fd, int opcode, const char *key,
	      void *value, __u32 len, __u32 *result)
{
	struct nvme_uring_cmd cmd = {
		.opcode = opcode,
		.nsid = ioctl(fd, NVME_IOCTL_ID),
		.addr = (unsigned long)value,
		.data_len = len,
		.cdw10 = len,		/* bytes of the value, or of the buffer */
		.cdw11 = strlen(key),	/* bits 7:0; 15:8 are options */
	};
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
	struct io_uring_cqe *cqe;
	unsigned char bytes[16] = "";
	int ret;

	if (!sqe || strlen(key) > sizeof(bytes))
		return -EINVAL;
	memcpy(bytes, key, strlen(key));
	memcpy(&cmd.cdw2, bytes, 4);
	memcpy(&cmd.cdw3, bytes + 4, 4);
	memcpy(&cmd.cdw14, bytes + 8, 4);
	memcpy(&cmd.cdw15, bytes + 12, 4);

	memset(sqe, 0, 2 * sizeof(*sqe));
	sqe->opcode = IORING_OP_URING_CMD;
	sqe->fd = fd;
	sqe->cmd_op = NVME_URING_CMD_IO;
	memcpy(sqe->cmd, &cmd, sizeof(cmd));
	ret = io_uring_submit_and_wait(ring, 1);
	if (ret < 0 || io_uring_peek_cqe(ring, &cqe))
		return ret < 0 ? ret : -EIO;
	ret = cqe->res;
	*result = cqe->big_cqe[0];	/* dwords 0 and 1 of the completion */
	io_uring_cqe_seen(ring, cqe);
	return ret;
}

int main(int argc, char **argv)
{
	struct io_uring ring;
	char back[4096];
	__u32 size;
	int fd, ret;

	if (argc != 4)
		errx(2, "usage: kv-hello /dev/ngXnY KEY VALUE");
	fd = open(argv[1], O_RDWR);
	if (fd < 0)
		err(1, "%s", argv[1]);
	ret = io_uring_queue_init(8, &ring, IORING_SETUP_SQE128 |
				  IORING_SETUP_CQE32);
	if (ret)
		errx(1, "io_uring: %s", strerror(-ret));
	ret = kv(&ring, fd, STORE, argv[2], argv[3], strlen(argv[3]), &size);
	if (!ret)
		ret = kv(&ring, fd, RETRIEVE, argv[2], back, sizeof(back),
			 &size);
	if (ret < 0)
		errx(1, "%s", strerror(-ret));
	if (ret)
		errx(1, "NVMe status %#x", ret);
	/* the size of the value, of which the buffer may have a part only */
	printf("%u bytes: %.*s\n", size,
	       (int)(size < sizeof(back) ? size : sizeof(back)), back);
	return 0;
}
