#!/usr/bin/env bash
# Starts an Apache Kafka broker of its own for tests (KRaft, one node) and prints its host:port as the only line on standard output.
#
#   scripts/kafka-up.sh DIR [PORT]
#
# DIR holds the data, the log and the script "ctl", which stops, kills and starts this broker; it is made if it does not exist. Without
# PORT, or with 0, the broker keeps the port that it had in DIR, or takes a free one. It listens on 127.0.0.1 only and trusts whoever
# reaches it. Called again, it prints the address of the broker that runs. Topics are not made by themselves.
# KAFKA_EXTRA adds lines of server.properties, parted by ";"; KAFKA_HEAP is the most memory of the heap (512m); KAFKA_JAVA adds options of Java, for
# example -XX:TieredStopAtLevel=1, which halves the work of a start and makes a long run slower; KAFKA_JARS: see kafka-jars.sh.
# KAFKA_PROXIED=1 lets the broker listen on one more port for clients behind a proxy: DIR/proxied has that port and, after a space, the one that the
# broker tells these clients, on which the proxy has to listen. Once given it stays so in DIR.
# A message is kept when the system has it, not when the disk has it: what the broker acknowledged outlives its process, not the machine.
set -euo pipefail

if [ $# -lt 1 ]; then
  echo "usage: $0 DIR [PORT]" >&2
  exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=scripts/kafka-find.sh
source "$here/kafka-find.sh"
# shellcheck source=scripts/ports.sh
source "$here/ports.sh"

if ! command -v java >/dev/null; then
  echo "kafka-up: Kafka needs Java 17 or later: install openjdk-17-jre-headless" >&2
  exit 1
fi
jars=$("$here/kafka-jars.sh")
mkdir -p "$1"
dir=$(cd "$1" && pwd)

# Two calls at once make one broker.
exec 9>"$dir/lock"
flock -w 120 9 || { echo "kafka-up: another start in $dir takes more than two minutes: end it" >&2; exit 1; }
if kafka_pid "$dir" >/dev/null; then
  cat "$dir/address"
  exit
fi

# The broker and its controller keep their ports, so that clients find them again.
read -r port control < <(cat "$dir/ports" 2>/dev/null || free_ports 2)
if [ "${2:-0}" != 0 ]; then
  port=$2
fi
for p in "$port" "$control"; do
  if (exec 3<>"/dev/tcp/127.0.0.1/$p") 2>/dev/null; then
    echo "kafka-up: something else listens on port $p: give another port, or take another folder than $dir" >&2
    exit 1
  fi
done
echo "$port $control" >"$dir/ports"

more= told=
if [ -n "${KAFKA_PROXIED:-}" ] && [ ! -e "$dir/proxied" ]; then
  free_ports 2 >"$dir/proxied"
fi
if [ -e "$dir/proxied" ]; then
  read -r behind before <"$dir/proxied"
  more=",PROXIED://127.0.0.1:$behind" told=",PROXIED://127.0.0.1:$before"
fi

# Few threads and partitions of Kafka's own topics: a start takes a second. Short sessions: after a kill the broker is let in again at once.
cat >"$dir/server.properties" <<PROPERTIES
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$control
listeners=CLIENT://127.0.0.1:$port,CONTROL://127.0.0.1:$control$more
advertised.listeners=CLIENT://127.0.0.1:$port$told
listener.security.protocol.map=CLIENT:PLAINTEXT,CONTROL:PLAINTEXT,PROXIED:PLAINTEXT
controller.listener.names=CONTROL
inter.broker.listener.name=CLIENT
log.dirs=$dir/data
auto.create.topics.enable=false
default.replication.factor=1
min.insync.replicas=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=2000
num.network.threads=2
num.io.threads=4
background.threads=2
num.recovery.threads.per.data.dir=2
log.segment.bytes=67108864
log.index.size.max.bytes=1048576
log.segment.delete.delay.ms=1000
log.cleaner.dedupe.buffer.size=8388608
$(tr ';' '\n' <<<"${KAFKA_EXTRA:-}")
PROPERTIES
cat >"$dir/logging.xml" <<'LOGGING'
<Configuration status="ERROR">
  <Appenders>
    <Console name="console"><PatternLayout pattern="%d %p %c{1} %m%n"/></Console>
  </Appenders>
  <Loggers>
    <Logger name="kafka.server.KafkaRaftServer" level="INFO"/>
    <Root level="WARN"><AppenderRef ref="console"/></Root>
  </Loggers>
</Configuration>
LOGGING
printf '#!/usr/bin/env bash\nexec %q %q "$@"\n' "$here/kafka-ctl.sh" "$dir" >"$dir/ctl"
chmod +x "$dir/ctl"

classpath=$(printf '%s\n' "$jars"/*.jar | sort | paste -sd:)
java=(java -XX:+UseSerialGC -Djava.awt.headless=true "-Dlog4j2.configurationFile=$dir/logging.xml" -Xshare:auto -Xlog:cds=off -Xlog:cds+dynamic=off)
if [ ! -e "$dir/data/meta.properties" ]; then
  id=A$(head -c 16 /dev/urandom | base64 | tr '+/' '-_' | cut -c 2-22) # a first "-" would be taken for an option
  if ! "${java[@]}" -Xmx128m -XX:TieredStopAtLevel=1 -cp "$classpath" kafka.tools.StorageTool format -t "$id" -c "$dir/server.properties" >"$dir/format.log" 2>&1 9>&-; then
    tail -n 20 "$dir/format.log" >&2
    echo "kafka-up: the data folder $dir/data could not be made: the reason stands above" >&2
    exit 1
  fi
fi

# An archive of loaded classes halves the time of a start. The first broker that is stopped in peace leaves one (kafka-down.sh).
if [ -e "$jars/classes.jsa" ]; then
  java+=("-XX:SharedArchiveFile=$jars/classes.jsa")
else
  java+=("-XX:ArchiveClassesAtExit=$dir/classes.jsa")
fi
: >"$dir/log"
# The broker outlives the shell that started it and must not inherit the lock.
# shellcheck disable=SC2086 # several options
setsid "${java[@]}" ${KAFKA_JAVA:-} -Xms128m "-Xmx${KAFKA_HEAP:-512m}" -XX:+ExitOnOutOfMemoryError "-Dcallchain.kafka.dir=$dir" -cp "$classpath" \
  kafka.Kafka "$dir/server.properties" >>"$dir/log" 2>&1 </dev/null 9>&- &
pid=$!
trap 'kill -9 "$pid" 2>/dev/null; rm -f "$dir/pid"' EXIT # unless the start ends well, below
trap 'exit 130' INT TERM
echo "$pid" >"$dir/pid"
echo "127.0.0.1:$port" >"$dir/address"
for _ in {1..1200}; do
  if grep -q 'Kafka Server started' "$dir/log"; then
    trap - EXIT
    cat "$dir/address"
    exit
  fi
  if ! kill -0 "$pid" 2>/dev/null; then
    tail -n 30 "$dir/log" >&2
    echo "kafka-up: the broker ended while it started: the reason stands above, all of its log in $dir/log" >&2
    exit 1
  fi
  sleep 0.05
done
tail -n 30 "$dir/log" >&2
echo "kafka-up: the broker was not ready after 60 s and was ended; its log is $dir/log" >&2
exit 1
