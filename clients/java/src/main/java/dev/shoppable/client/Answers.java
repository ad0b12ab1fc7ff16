package dev.shoppable.client;

import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ClientCall;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import java.util.Iterator;
import java.util.NoSuchElementException;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.locks.Condition;
import java.util.concurrent.locks.ReentrantLock;

/**
 * The answers of a running call, in order. Its requests are sent by a thread of their own, as fast as the server takes
 * them; answers are fetched one at a time, as fast as they are read.
 *
 * <p>Close it if it may not be read to its end: closing cancels the call. Any thread may close it; who reads then gets a
 * ShoppableException of code CANCELLED.
 */
public final class Answers<A> implements Iterator<A>, AutoCloseable {
  private final ClientCall<?, A> call;
  private final BlockingQueue<Event<A>> events = new LinkedBlockingQueue<>();
  private final ReentrantLock lock = new ReentrantLock();
  private final Condition changed = lock.newCondition();
  private boolean over; // guarded by lock
  private volatile RuntimeException torn;
  private Event<A> next;

  private record Event<A>(A answer, Status status, Metadata trailers) {}

  /** Sends the requests of a call. Whatever it throws ends the call, and is thrown to who reads. */
  interface Requests<Q> {
    void send(Sink<Q> sink) throws Exception;
  }

  /** Takes requests. */
  interface Sink<Q> {
    /** Waits until the server takes more, sends, and returns false if the call has ended and no more is wanted. */
    boolean send(Q request) throws InterruptedException;
  }

  private Answers(ClientCall<?, A> call) {
    this.call = call;
  }

  static <Q, A> Answers<A> of(
      Channel channel, MethodDescriptor<Q, A> method, CallOptions options, Requests<Q> requests) {
    ClientCall<Q, A> call = channel.newCall(method, options);
    Answers<A> answers = new Answers<>(call);
    call.start(answers.new Listener(), new Metadata());
    call.request(1);
    Thread sender = new Thread(() -> answers.sendAll(call, requests), "shoppable-upload");
    sender.setDaemon(true);
    sender.start();
    return answers;
  }

  /**
   * Waits for the next answer.
   *
   * @throws ShoppableException the call failed
   */
  @Override
  public boolean hasNext() {
    if (next == null) {
      try {
        next = events.take();
      } catch (InterruptedException interrupted) {
        Thread.currentThread().interrupt();
        call.cancel("interrupted", interrupted);
        throw ShoppableException.from(Status.CANCELLED.withCause(interrupted).asRuntimeException());
      }
    }
    if (next.answer() != null) {
      return true;
    }
    if (torn != null) {
      throw torn;
    }
    if (!next.status().isOk()) {
      throw ShoppableException.from(new StatusRuntimeException(next.status(), next.trailers()));
    }
    return false;
  }

  @Override
  public A next() {
    if (!hasNext()) {
      throw new NoSuchElementException();
    }
    A answer = next.answer();
    next = null;
    call.request(1);
    return answer;
  }

  /** Cancels the call, and the work for it. Does nothing if it has ended. */
  @Override
  public void close() {
    call.cancel("closed by the caller", null);
  }

  private <Q> void sendAll(ClientCall<Q, A> sending, Requests<Q> requests) {
    try {
      requests.send(
          request -> {
            if (!awaitReady()) {
              return false;
            }
            sending.sendMessage(request);
            return true;
          });
      lock.lock();
      try {
        if (!over) {
          sending.halfClose();
        }
      } finally {
        lock.unlock();
      }
    } catch (RuntimeException error) {
      tear(error);
    } catch (Exception error) {
      tear(new IllegalStateException("the requests of the call could not be made", error));
    }
  }

  private void tear(RuntimeException error) {
    torn = error;
    call.cancel("its requests could not be made", error);
  }

  private boolean awaitReady() throws InterruptedException {
    lock.lock();
    try {
      while (!over && !call.isReady()) {
        changed.await();
      }
      return !over;
    } finally {
      lock.unlock();
    }
  }

  private void signal(boolean ended) {
    lock.lock();
    try {
      over |= ended;
      changed.signalAll();
    } finally {
      lock.unlock();
    }
  }

  private final class Listener extends ClientCall.Listener<A> {
    @Override
    public void onMessage(A answer) {
      events.add(new Event<>(answer, null, null));
    }

    @Override
    public void onReady() {
      signal(false);
    }

    @Override
    public void onClose(Status status, Metadata trailers) {
      events.add(new Event<>(null, status, trailers));
      signal(true);
    }
  }
}
